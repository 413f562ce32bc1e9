"""The figures of the tutorial, computed from the same files without Watershed."""

import csv
import glob
import gzip
from collections import Counter
from decimal import Decimal

rows = [row for path in sorted(glob.glob("data/*.csv.gz")) for row in csv.DictReader(gzip.open(path, "rt", newline=""))]
unique = list({tuple(row.values()): row for row in rows}.values())
cancelled = [row for row in unique if row["InvoiceNo"].startswith("C")]
rest = [row for row in unique if not row["InvoiceNo"].startswith("C")]


def broken(row):
    if Decimal(row["UnitPrice"]) <= 0:
        return "price_above_zero"
    if int(row["Quantity"]) <= 0:
        return "quantity_above_zero"
    return None if row["CustomerID"] else "customer_is_known"


sales = [row for row in rest if not broken(row)]
amount = lambda row: int(row["Quantity"]) * Decimal(row["UnitPrice"])
print(f"lines {len(rows)}, repeated {len(rows) - len(unique)}, cancellations {len(cancelled)}, sales {len(sales)}")
print("refused", *(f"{rule} {count}" for rule, count in sorted(Counter(filter(None, map(broken, rest))).items())))
print(f"revenue {sum(map(amount, sales))}, of cancellations {-sum(map(amount, cancelled))}")
days = Counter()
for row in sales:
    days[row["InvoiceDate"][:10]] += amount(row)
print("best days", *(f"{day} {revenue}" for day, revenue in days.most_common(3)))
