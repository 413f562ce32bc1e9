"""The figures of the tutorial, computed from the same file without Watershed."""

import gzip
import re
from collections import Counter

whole = re.compile(r'^(\S+) \S+ (\S+) \[([^\]]+)\] "([A-Z]+) (\S+) [^"]*" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"$')
lines = gzip.open("data/access.log.gz", "rt").read().splitlines()
unique = list(dict.fromkeys(lines))
requests = [found for found in map(whole.match, unique) if found]
print(f"lines {len(lines)}, repeated {len(lines) - len(unique)}, not whole {len(unique) - len(requests)}, requests {len(requests)}")
print("by status", *(f"{status} {count}" for status, count in sorted(Counter(found[6] for found in requests).items())))
hours = Counter((found[3][:14], found[6]) for found in requests)
print("busiest", *(f"{hour} {status} {count}" for (hour, status), count in hours.most_common(2)))
