-- A shop's invoice lines: from daily CSV files to sales, cancellations and revenue.
--
--   invoice_lines (CSV files) ─▶ unique_lines ─┬─▶ sales          (silver) ──┬─▶ revenue_by_day  (gold)
--        a line once, by all its columns       │                            └─▶ revenue_by_hour (gold)
--                                              └─▶ cancellations  (silver)

-- One file a day, read in the order of their names. Names in mixed case need quotes, here and wherever they are used.
CREATE SOURCE invoice_lines (
    "InvoiceNo"   VARCHAR NOT NULL,
    "StockCode"   VARCHAR NOT NULL,
    "Description" VARCHAR,
    "Quantity"    INT NOT NULL,
    "InvoiceDate" TIMESTAMP NOT NULL,
    "UnitPrice"   DECIMAL(10,2) NOT NULL,
    "CustomerID"  DOUBLE,
    "Country"     VARCHAR NOT NULL,
    WATERMARK FOR "InvoiceDate" AS "InvoiceDate" - INTERVAL '1 hour'
) WITH (connector = 'files', path = 'data', format = 'csv', header = 'true');

-- The same line twice is one line. All columns make the key: an invoice may well list an article on two lines.
CREATE VIEW unique_lines AS
SELECT "InvoiceNo" AS invoice, "StockCode" AS article, "Description" AS description, "Quantity" AS quantity,
       "InvoiceDate" AS invoiced_at, "UnitPrice" AS price, CAST("CustomerID" AS BIGINT) AS customer, "Country" AS country
FROM DEDUPLICATE(invoice_lines,
                 KEY ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"),
                 WITHIN INTERVAL '1 hour');

-- What was sold. Rules are checked in this order, and the first one broken is the reason a line is refused for.
CREATE TABLE sales (
    CONSTRAINT price_above_zero    EXPECT (price > 0)            ON VIOLATION QUARANTINE,
    CONSTRAINT quantity_above_zero EXPECT (quantity > 0)         ON VIOLATION QUARANTINE,
    CONSTRAINT customer_is_known   EXPECT (customer IS NOT NULL) ON VIOLATION QUARANTINE
)
PARTITIONED BY (month, day)
WITH (zone = 'silver')
AS SELECT invoice, article, description, quantity, invoiced_at, price, customer, country,
          price * quantity AS amount,
          date_part('month', invoiced_at) AS month, date_part('day', invoiced_at) AS day
   FROM unique_lines
   WHERE invoice NOT LIKE 'C%';

-- What was sent back or called off: the quantity is below zero, and the number starts with C.
CREATE TABLE cancellations (
    CONSTRAINT something_came_back EXPECT (quantity > 0) ON VIOLATION QUARANTINE
)
WITH (zone = 'silver')
AS SELECT substr(invoice, 2) AS number, article, description, -quantity AS quantity, invoiced_at, price, customer, country,
          -quantity * price AS amount
   FROM unique_lines
   WHERE invoice LIKE 'C%';

-- Written when the day is over: one hour after midnight, by the time on the invoices.
CREATE TABLE revenue_by_day WITH (zone = 'gold') AS
SELECT window_start, window_end, country,
       count(*) AS lines, count(DISTINCT invoice) AS invoices, sum(quantity) AS pieces, sum(amount) AS revenue
FROM TUMBLE(sales, invoiced_at, INTERVAL '1 day')
GROUP BY window_start, window_end, country;

CREATE TABLE revenue_by_hour WITH (zone = 'gold') AS
SELECT window_start, window_end, country, count(*) AS lines, sum(amount) AS revenue
FROM TUMBLE(sales, invoiced_at, INTERVAL '1 hour')
GROUP BY window_start, window_end, country;
