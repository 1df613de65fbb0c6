from muxplm.cli import main

main()
