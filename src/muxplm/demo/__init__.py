"""`muxplm demo`: N sentences mixed into one row, and read back from one pass of the encoder."""
