"""What a call is: its states, who is let in, and how a leg and an agent are joined. Pure: no I/O, no clock."""
