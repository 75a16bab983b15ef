# expect: RTE
import sys

print(int(sys.argv[1]) // 0)
