#!/bin/sh
# Makes the speech clips of the simulators: 8 kHz, 16 bit, mono WAV, one voice for the agent and one for the caller.
#
# Needs espeak-ng (1.51) and sox (14.4); run it in any directory. espeak-ng only reads out the texts below, so the
# clips carry no licence but this project's. Speed (-s) and pitch (-p) are chosen so that each clip has the length
# named in speech.py; the level is set to -6 dB peak, well above the simulators' talk threshold.
set -eu
cd "$(dirname "$0")"

say() { # name voice pitch speed text
    espeak-ng -v "$2" -p "$3" -s "$4" -w "$1.raw.wav" "$5"
    # silence: cut the pauses that espeak-ng leaves at both ends; -R: the same dither, hence the same file, each time
    sox -R "$1.raw.wav" -r 8000 -b 16 -c 1 "$1.wav" norm -6 silence 1 0.01 0.5% reverse silence 1 0.01 0.5% reverse
    rm "$1.raw.wav"
}

say agent_greeting en-us+m3 35 185 "Hello, this is Ada. How can I help you today?"
say agent_answer en-us+m3 35 185 "Orders leave our house at five every day, and most arrive within two days, \
unless they go abroad."
say agent_reply en-us+m3 35 185 "Your order was sent today. It arrives on Monday."
say agent_goodbye en-us+m3 35 165 "You are welcome. Thank you, and goodbye."
say caller_question en-us+f3 60 175 "Hi, I would like to know when my order arrives."
say caller_interruption en-us+f3 60 190 "Sorry, order four two seven."
say caller_thanks en-us+f3 60 200 "Great, that is all."
