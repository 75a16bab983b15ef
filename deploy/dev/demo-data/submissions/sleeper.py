# expect: WTLE
import time

time.sleep(3600)
