// An invented pipeline whose numbers move and whose accounts add up. Development only.
const now = () => Date.now() * 1000;
const SECOND = 1_000_000;
const REASONS = ['violation', 'late', 'schema', 'corrupt'];

const wave = (seconds, period, low, high, phase = 0) => low + (high - low) * (0.5 + 0.5 * Math.sin((seconds / period) * 2 * Math.PI + phase));
const noise = (seed) => {
  const x = Math.sin(seed * 12.9898) * 43758.5453;
  return x - Math.floor(x);
};

export class World {
  constructor({ calm, empty }) {
    this.calm = calm;
    this.empty = empty;
    this.startedAt = now() - (empty ? 5 : 3600) * SECOND;
    this.epochs = [];
    this.refused = [];
    this.requests = 0;
    this.states = new Map();
    if (!empty) for (let e = 1; e <= 120; e++) this.commit(e, now() - (121 - e) * 10 * SECOND);
    if (!empty) setInterval(() => this.commit((this.epochs[0]?.epoch ?? 0) + 1, now()), 10_000).unref();
  }

  account(epoch, table) {
    const read = Math.round(480_000 + 40_000 * noise(epoch + table.length));
    const late = Math.round(40 * noise(epoch * 3));
    const quarantined = Math.round(90 * noise(epoch * 7));
    const duplicate = table === 'clean_orders' ? Math.round(read * 0.012) : 0;
    const filtered = table === 'large_orders' ? Math.round(read * 0.93) : 0;
    return { read, delivered: read - late - quarantined - duplicate - filtered, filtered, duplicate, late, quarantined, lost: 0 };
  }

  commit(epoch, at) {
    const tables = ['clean_orders', 'per_minute', 'large_orders'];
    const ledger = tables.map((table) => ({ epoch, table, source: table === 'clean_orders' ? 'orders' : 'clean_orders', ...this.account(epoch, table), balances: true }));
    const [first] = ledger;
    this.epochs.unshift({
      epoch, opened_at: at - 10 * SECOND, sealed_at: at - 60_000, committed_at: at, duration_seconds: 10 + noise(epoch) * 0.3,
      commit_seconds: 0.02 + 0.06 * noise(epoch * 5), records: first.read, rows: first.delivered, ledger,
      sinks: Object.fromEntries([...tables, 'warehouse'].map((name) => [name, { rows: first.delivered, bytes: first.delivered * 61, refused: 0, seconds: 0.02 + 0.05 * noise(epoch + name.length), already_there: false }])),
    });
    this.epochs.length = Math.min(this.epochs.length, 720);
    for (let i = 0; i < 2; i++) this.refuse(epoch, i, at);
    for (const row of this.refused) if (row.asked && row.asked < at) Object.assign(row, { replayed: true, replayable: false, asked: undefined });
  }

  refuse(epoch, i, at) {
    const reason = REASONS[(epoch + i) % 4];
    const order = `{"order_id":"o-${epoch}-${i}","customer":{"id":${9007199254740993n + BigInt(epoch)},"tags":["new","web"]},"amount":${reason === 'violation' ? -12.5 : 42.9},"currency":"EUR","ordered_at":"2026-11-21T10:${10 + (epoch % 50)}:00Z"}`;
    const detail = {
      violation: 'amount_in_range: amount > 0 AND amount < 1000000 does not hold',
      late: 'ordered_at is 00:03:12 behind the watermark of partition 3', schema: 'column "amount": expected DECIMAL(12,2), found text "n/a"', corrupt: 'byte 17: expected a comma or a brace',
    }[reason];
    const binary = reason === 'corrupt' && i === 1;
    this.refused.unshift({
      id: `q1.${epoch}.${i}`, epoch, table: 'clean_orders', source: 'orders', partition: String(epoch % 4), position: String(epoch * 50_000 + i), reason, detail,
      raw: binary ? null : reason === 'corrupt' ? order.slice(0, 60) : order, raw_base64: binary ? Buffer.from([0, 255, 17, 72, 101, 108, 108, 111]).toString('base64') : null,
      raw_bytes: order.length, raw_truncated: false, event_time: at - 60 * SECOND, quarantined_at: at, replayed: false, replayable: true,
    });
  }

  graph() {
    const t = now() / SECOND;
    const idle = this.empty;
    const rate = idle ? 0 : wave(t, 40, 43_000, 58_000) + 900 * noise(Math.floor(t * 4));
    const epoch = this.epochs[0]?.epoch ?? null;
    const behind = idle ? null : 12 + 3 * noise(Math.floor(t));
    const watermark = idle ? null : Math.round(now() - behind * SECOND);
    const trouble = !this.calm && !idle;
    const table = (name, zone, share, state) => ({
      id: `table:${name}`, kind: 'table', name, zone, connector: 'delta', stored: true, state: idle ? 'idle' : 'ok', rate: rate * share, rows: idle ? 0 : Math.round(1.2e8 * share),
      account: idle ? null : this.totals(name), violations: name === 'clean_orders' ? { amount_in_range: 12_804, known_currency: 31 } : {}, state_rows: state / 30, state_bytes: state,
      operators: state ? [{ id: `${name}/1:${name === 'clean_orders' ? 'dedup' : 'window'}`, rows: Math.round(state / 30), bytes: state, evictions: 7012 }] : [],
      watermark, watermark_lag_seconds: behind, epoch, holds_back: false, why: null,
    });
    const why = 'Postgres does not take connections: connection refused (127.0.0.1:5432). Tried again every 5 s.';
    return {
      at: now(), pipeline: 'shop', state: 'running', error: null, generation: 3, started_at: this.startedAt, epoch, open_epoch: (epoch ?? 0) + 1,
      committed_at: this.epochs[0]?.committed_at ?? null, commit_seconds: this.epochs[0]?.commit_seconds ?? null, epoch_interval_seconds: 10, rate, records: idle ? 0 : 123_456_789 + Math.round((now() - this.startedAt) / SECOND) * 50_000,
      bytes: idle ? 0 : 40_000_000_000, watermark, watermark_lag_seconds: behind, state_bytes: idle ? 0 : 93_000_000, memory_limit: 4_294_967_296,
      quarantine: Object.fromEntries(REASONS.map((reason) => [reason, this.refused.filter((row) => row.reason === reason).length])),
      notices: trouble ? ['source "orders": SKEWED: partition 3 gets 61 % of the records; its hot key is "C42"'] : [],
      held_back_by: trouble ? { node: 'sink:warehouse', why: 'sink', detail: 'the sink warehouse does not take its epoch: connection refused' } : null,
      nodes: [
        { id: 'source:orders', kind: 'source', name: 'orders', connector: 'kafka', state: idle ? 'idle' : 'ok', rate, input_rate: rate * 1.01, rows: idle ? 0 : 123_456_789, lag_records: idle ? 0 : Math.round(900 + 400 * noise(Math.floor(t * 2))), lag_bytes: null, caught_up: true, falling_behind: false, catch_up_seconds: 0.2, watermark, watermark_lag_seconds: behind, held_by: '3', idle: ['2'], skewed: trouble,
          partitions: ['0', '1', '2', '3'].map((p) => ({ partition: p, position: 1e7, end: 1e7 + 300, lag: p === '3' ? 800 : 40, input_rate: p === '3' ? rate * 0.61 : p === '2' ? 0 : rate * 0.19, read_rate: p === '3' ? rate * 0.6 : p === '2' ? 0 : rate * 0.19, skewed: trouble && p === '3', hot_key: trouble && p === '3' ? 'C42' : null, hot_share: trouble && p === '3' ? 0.61 : null, watermark, idle: p === '2' })), holds_back: false, why: null },
        { id: 'static:customers', kind: 'static', name: 'customers', connector: 'files', state: 'ok' },
        { ...table('clean_orders', 'silver', 0.97, 88_000_000) },
        { ...table('per_minute', 'gold', 0.02, 4_200_000) },
        { ...table('large_orders', 'gold', 0.07, 0) },
        { id: 'sink:warehouse', kind: 'sink', name: 'warehouse', connector: 'postgres', live: false, state: idle ? 'idle' : trouble ? 'retrying' : 'ok', error: trouble ? why : null, rate: trouble ? 0 : rate * 0.97, rows: 119_000_000, refused: 3, epoch: epoch && (trouble ? epoch - 4 : epoch), committed_at: this.epochs[trouble ? 4 : 0]?.committed_at ?? null, commit_seconds: 0.4, lag_seconds: trouble ? 43.2 : 0.4, holds_back: trouble, why: trouble ? why : null },
        { id: 'sink:hot', kind: 'sink', name: 'hot_customers', connector: 'redis', live: true, state: idle ? 'idle' : 'ok', error: null, rate: rate * 0.07, rows: 8_600_000, refused: 0, epoch, committed_at: this.epochs[0]?.committed_at ?? null, commit_seconds: 0.001, lag_seconds: 0.01, holds_back: false, why: null },
      ],
      edges: [
        { from: 'source:orders', to: 'table:clean_orders', kind: 'rows', rate },
        { from: 'static:customers', to: 'table:clean_orders', kind: 'lookup', rate: null },
        { from: 'table:clean_orders', to: 'table:per_minute', kind: 'rows', rate: rate * 0.97 },
        { from: 'table:clean_orders', to: 'table:large_orders', kind: 'rows', rate: rate * 0.97 },
        { from: 'table:clean_orders', to: 'sink:warehouse', kind: 'rows', rate: trouble ? 0 : rate * 0.97 },
        { from: 'table:large_orders', to: 'sink:hot', kind: 'rows', rate: rate * 0.07 },
      ],
    };
  }

  totals(table) {
    const sum = { read: 0, delivered: 0, filtered: 0, duplicate: 0, late: 0, quarantined: 0, lost: 0 };
    for (const epoch of this.epochs) for (const row of epoch.ledger) if (!table || row.table === table) for (const key of Object.keys(sum)) sum[key] += row[key];
    return sum;
  }

  values(seconds) {
    const rate = wave(seconds, 40, 43_000, 58_000) + 2500 * noise(Math.floor(seconds));
    const quiet = noise(Math.floor(seconds / 7)) > 0.95 ? 3 : 1;
    const values = {
      rate, bytes_rate: rate * 330, watermark_lag_seconds: 12 + 3 * noise(seconds), state_bytes: wave(seconds, 300, 80e6, 95e6), memory_bytes: wave(seconds, 500, 610e6, 680e6), cpu: wave(seconds, 40, 1.1, 1.7), tick_seconds: 0.04 * quiet, commit_seconds: 0.05 * quiet, epoch: Math.floor(seconds / 10),
      'source.orders.rate': rate, 'source.orders.input_rate': rate * 1.01, 'source.orders.lag': 1200 * quiet * noise(seconds), 'source.orders.watermark_lag_seconds': 12 + 3 * noise(seconds),
    };
    for (const [name, share, state] of [['clean_orders', 0.97, 88e6], ['per_minute', 0.02, 4e6], ['large_orders', 0.07, 0]]) {
      Object.assign(values, { [`table.${name}.rate`]: rate * share, [`table.${name}.quarantined_rate`]: name === 'clean_orders' ? 9 * noise(seconds) : 0, [`table.${name}.late_rate`]: name === 'clean_orders' ? 4 * noise(seconds * 2) : 0, [`table.${name}.duplicate_rate`]: 0, [`table.${name}.state_bytes`]: state });
    }
    for (const [name, share] of [['warehouse', 0.97], ['hot_customers', 0.07]]) Object.assign(values, { [`sink.${name}.rate`]: rate * share, [`sink.${name}.refused_rate`]: 0, [`sink.${name}.commit_seconds`]: 0.2 });
    for (const [stage, base] of [['event', 2], ['processed', 0.004], ['lake', 5], ['sink:warehouse', 5.4]]) Object.assign(values, { [`latency.${stage}.p50`]: base * (1 + 0.2 * noise(seconds)), [`latency.${stage}.p95`]: base * 2 * quiet, [`latency.${stage}.p99`]: base * (2.4 + noise(seconds * 3)) * quiet });
    return values;
  }

  series(resolution) {
    const step = resolution === '10s' ? 10 : 1;
    const count = this.empty ? 3 : step === 10 ? 720 : 600;
    const end = Math.floor(Date.now() / 1000 / step) * step;
    const seconds = Array.from({ length: count }, (_, i) => end - (count - 1 - i) * step);
    const columns = {};
    for (const second of seconds) for (const [name, value] of Object.entries(this.values(second))) (columns[name] ??= []).push(this.empty ? null : value);
    return { at: now(), step_seconds: step, times: seconds.map((s) => s * SECOND), series: columns };
  }

  point() {
    const second = Math.floor(Date.now() / 1000);
    const values = this.values(second);
    return { step_seconds: 1, at: second * SECOND, values: this.empty ? Object.fromEntries(Object.keys(values).map((k) => [k, null])) : values };
  }

  ledger({ table, from_epoch, to_epoch, limit = 100, cursor = 0 }) {
    const rows = this.epochs.flatMap((epoch) => epoch.ledger).filter((row) => (!table || row.table === table) && (!from_epoch || row.epoch >= from_epoch) && (!to_epoch || row.epoch <= to_epoch));
    const totals = { read: 0, delivered: 0, filtered: 0, duplicate: 0, late: 0, quarantined: 0, lost: 0 };
    for (const row of rows) for (const key of Object.keys(totals)) totals[key] += row[key];
    const end = Number(cursor) + Number(limit);
    return { rows: rows.slice(Number(cursor), end), next: end < rows.length ? String(end) : null, totals, total_rows: rows.length };
  }

  fitting({ table, reason, text, epoch }) {
    return this.refused.filter((row) => (!table || row.table === table) && (!reason || row.reason === reason) && (!epoch || row.epoch === Number(epoch)) && (!text || `${row.detail} ${row.raw}`.includes(text)));
  }

  quarantine(query) {
    const rows = this.fitting(query);
    const from = Number(query.cursor ?? 0);
    const end = from + Number(query.limit ?? 50);
    return { rows: rows.slice(from, end), next: end < rows.length ? String(end) : null, total: rows.length };
  }

  summary() {
    const groups = REASONS.map((reason) => {
      const rows = this.refused.filter((row) => row.reason === reason);
      return { table: 'clean_orders', reason, rows: rows.length, first_epoch: 1, last_epoch: rows[0]?.epoch ?? 0, replayed: rows.filter((row) => row.replayed).length };
    });
    return { groups: groups.filter((group) => group.rows > 0), total: this.refused.length };
  }

  replay({ ids, filter, dry_run }) {
    const chosen = ids ? this.refused.filter((row) => ids.includes(row.id)) : this.fitting(filter);
    const rows = chosen.filter((row) => row.replayable);
    if (!dry_run) for (const row of rows) setTimeout(() => Object.assign(row, { replayed: true, replayable: false }), 1500);
    return { request: dry_run ? null : `${String(++this.requests).padStart(10, '0')}.json`, rows: rows.length, left_out: { replayed: chosen.length - rows.length, results: 0, gone: 0 }, dry_run: Boolean(dry_run) };
  }

  tables() {
    const committed = !this.empty;
    const columns = [['order_id', 'Utf8', false], ['customer_id', 'Int64', false], ['amount', 'Decimal128(12, 2)', false], ['status', 'Utf8', true], ['ordered_at', 'Timestamp(Microsecond, None)', true]].map(([name, type, nullable]) => ({ name, type, nullable }));
    const table = (name, zone, rows) => ({ name, zone, kind: 'table', stored: true, rows: committed ? rows : null, bytes: committed ? rows * 61 : null, files: committed ? 12 : null, version: this.epochs[0]?.epoch ?? null, inputs: ['source:orders'], columns, partitioned_by: ['ordered_at'], sql: `SELECT t.*\nFROM DEDUPLICATE(orders, KEY (order_id), WITHIN INTERVAL '10 minutes') AS t`, rules: [{ name: 'amount_in_range', text: 'amount > 0 AND amount < 1000000', on_violation: 'QUARANTINE' }] });
    return [table('clean_orders', 'silver', 120_000_000), table('per_minute', 'gold', 8123), table('large_orders', 'gold', 402_123),
      ...['ledger', 'quarantine', 'epochs'].map((name) => ({ name: `system.${name}`, kind: 'system', columns: [{ name: 'epoch', type: 'Int64', nullable: false }, { name: 'table_name', type: 'Utf8' }] }))];
  }

  order(i) {
    return { order_id: `o-${i}`, customer_id: 1000 + (i % 77), amount: (10 + 90 * noise(i)).toFixed(2), status: ['paid', 'open', 'failed'][i % 3], ordered_at: new Date(Date.now() - i * 1000).toISOString() };
  }

  answer(rows) {
    const kinds = { customer_id: 'number', amount: 'number', ordered_at: 'time', total: 'number', orders: 'number', minute: 'time' };
    const columns = Object.keys(rows[0] ?? { nothing: 0 }).map((name) => ({ name, type: kinds[name] ?? 'Utf8', kind: kinds[name] ?? 'text' }));
    return { columns, rows: rows.map((row) => Object.values(row)), row_count: rows.length, truncated: false, elapsed_seconds: 0.012 };
  }

  rows(_, { limit, offset }) {
    return this.answer(this.empty ? [] : Array.from({ length: Number(limit) }, (_, i) => this.order(Number(offset) + i)));
  }

  live() {
    const base = Date.now() % 1_000_000;
    return this.empty ? { rows: [], total: 0, skipped: 0 } : { rows: [0, 1, 2].map((i) => this.order(base + i)), total: 12_000, skipped: 11_997 };
  }

  query({ sql, limit }) {
    if (/minute/.test(sql)) {
      return this.answer(Array.from({ length: 90 }, (_, i) => ({ minute: new Date(Date.now() - (30 - Math.floor(i / 3)) * 60_000).toISOString(), status: ['paid', 'open', 'failed'][i % 3], orders: Math.round(100 * (3 - (i % 3)) + 60 * noise(i)), total: (1000 + 900 * noise(i + 1)).toFixed(2) })));
    }
    if (/GROUP BY status/i.test(sql)) return this.answer(['paid', 'open', 'failed', 'returned'].map((status, i) => ({ status, orders: 900 - i * 200, total: String(12_000 - i * 2500) })));
    return this.answer(Array.from({ length: Math.min(limit, 300) }, (_, i) => this.order(i)));
  }

  checkpoints({ limit = 100, cursor = 0 }) {
    const from = Number(cursor);
    const page = this.epochs.slice(from, from + Number(limit));
    return {
      epochs: page.map((e, i) => ({ epoch: e.epoch, generation: 3, prepared_at: e.sealed_at, committed_at: e.committed_at, complete: true, state_bytes: from + i < 10 ? 93_000_000 : null, kept: from + i < 10, sinks: e.sinks })),
      next: from + page.length < this.epochs.length ? String(from + page.length) : null,
    };
  }

  manifest(epoch) {
    const e = this.epochs.find((one) => one.epoch === epoch);
    return { epoch, generation: 3, prepared_at: e.sealed_at, committed_at: e.committed_at, complete: true, watermark: e.committed_at - 12 * SECOND, sources: { orders: { partitions: { 0: { offset: 10_000_123 }, 1: { offset: 9_998_120 } } } }, ticks: [1, 2, 3], ledger: [],
      state: [{ operator: 'clean_orders/1:dedup', path: `state/${epoch}-g3.arrow`, rows: 2_900_000, bytes: 88_000_000, whole: false, expires_at: e.committed_at + 600 * SECOND }] };
  }

  verify() {
    return { ok: true, elapsed_seconds: 0.8, findings: [{ check: 'ledger', level: 'ok', text: `${this.epochs.length} epochs, every account adds up`, hint: null }, { check: 'lake', level: 'ok', text: '3 tables hold what the ledger says', hint: null }, { check: 'checkpoint', level: 'note', text: '110 manifests are folded away', hint: 'Their accounts are in the ledger.' }] };
  }

  alerts() {
    if (this.empty) return { available: false, alerts: [], history: [] };
    const at = this.startedAt;
    const alert = (id, name, severity, state, text, target, value) => ({ id, name, severity, state: this.calm ? 'ok' : state, since: at + 1800 * SECOND, value, text, target, runbook: 'https://runbooks.example/' + id, silenced_until: null, acked_by: null, acked_at: null, ...this.states.get(id) });
    return {
      available: true,
      alerts: [
        alert('warehouse-behind', 'warehouse is behind', 'critical', 'firing', 'The sink warehouse has not committed for 43 s; its objective is 30 s.', 'sink:warehouse', '43.2'),
        alert('late-rows', 'late rows', 'warning', 'pending', 'Late rows are 0.01 % of what is read; the limit is 0.005 %.', 'table:clean_orders', '0.01'),
        alert('no-input', 'no input', 'critical', 'ok', null, 'source:orders', null),
      ],
      history: this.calm ? [] : [{ at: at + 1800 * SECOND, id: 'warehouse-behind', state: 'firing', text: 'connection refused' }, { at: at + 900 * SECOND, id: 'no-input', state: 'resolved', text: null }],
    };
  }

  change(id, verb, body) {
    this.states.set(id, { ...this.states.get(id), ...(verb === 'ack' ? { acked_by: 'bob', acked_at: now() } : { silenced_until: body.seconds ? now() + body.seconds * SECOND : null }) });
    return this.alerts().alerts.find((alert) => alert.id === id);
  }
}

