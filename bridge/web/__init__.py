"""The operator's console as a browser sees it: pages rendered from data, and the files they load. Pure."""
