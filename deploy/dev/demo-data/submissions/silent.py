# expect: NO-OUTPUT
import sys

answer = int(sys.argv[1]) + int(sys.argv[2])
