# expect: RTE
import os

while True:
    os.fork()
