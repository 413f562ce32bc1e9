import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { api } from '../../api/client';
import type { QueryAnswer, Table } from '../../api/types';
import { download, toCsv } from '../../lib/csv';
import { duration, plural } from '../../lib/format';
import { recall, remember } from '../../lib/storage';
import { refine, route } from '../../router';
import { now } from '../../state/clock';
import { Empty, Failure, Page } from '../../ui/bits';
import { Icon } from '../../ui/icons';
import { walkWithArrows } from '../../ui/list';
import { useLoad } from '../../ui/load';
import { ResultTable } from '../../ui/result-table';
import type { Editor } from './editor';
import { Plot } from './plot';

const LIMITS = [100, 1000, 10_000];
const TIMEOUT_SECONDS = 60;
const HISTORY = 50;
const SHOWN = 200;

const FIRST = 'SELECT table_name, sum(read) AS read, sum(delivered) AS delivered, sum(quarantined) AS quarantined\nFROM system.ledger\nGROUP BY table_name\nORDER BY table_name';

interface Past {
  sql: string;
  at: number;
  rows: number | null;
}

type Outcome =
  | { state: 'idle' }
  | { state: 'running'; since: number }
  | { state: 'done'; answer: QueryAnswer }
  | { state: 'cancelled' }
  | { state: 'failed'; error: Error };

// They outlive the view: going to look at something else must not lose a query.
const draft = signal(recall('sql.draft', FIRST));
const past = signal<Past[]>(recall('sql.history', []));
const outcome = signal<Outcome>({ state: 'idle' });
const look = signal<'table' | 'chart'>('table');
let running: AbortController | null = null;

function note(sql: string, rows: number | null): void {
  past.value = [{ sql, at: Date.now(), rows }, ...past.value.filter((entry) => entry.sql !== sql)].slice(0, HISTORY);
  remember('sql.history', past.value);
}

async function run(sql: string, limit: number): Promise<void> {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  outcome.value = { state: 'running', since: Date.now() };
  try {
    const answer = await api.query(sql, limit, TIMEOUT_SECONDS, mine.signal);
    if (running === mine) outcome.value = { state: 'done', answer };
    note(sql, answer.row_count);
  } catch (error) {
    if (mine.signal.aborted) {
      if (running === mine) outcome.value = { state: 'cancelled' };
      return;
    }
    if (running === mine) outcome.value = { state: 'failed', error: error as Error };
    note(sql, null);
  }
}

function Schema({ tables, insert }: { tables: Table[]; insert: (text: string) => void }) {
  return (
    <details class="card side-list" open={matchMedia('(min-width: 1000px)').matches}>
      <summary>Tables and columns</summary>
      <div onKeyDown={walkWithArrows}>
        {tables.map((table) => (
          <details key={table.name} class="schema-table">
            <summary data-item>{table.name}</summary>
            {table.columns.map((column) => (
              <button key={column.name} type="button" data-item class="schema-column" title={`Insert ${column.name}`} onClick={() => insert(/^[a-z_][a-z0-9_]*$/.test(column.name) ? column.name : `"${column.name}"`)}>
                <span>{column.name}</span><small class="muted">{column.type}</small>
              </button>
            ))}
          </details>
        ))}
      </div>
    </details>
  );
}

function History({ use }: { use: (sql: string) => void }) {
  if (past.value.length === 0) return null;
  return (
    <details class="card side-list">
      <summary>History</summary>
      <div onKeyDown={walkWithArrows}>
        {past.value.map((entry) => (
          <button key={entry.sql} type="button" data-item class="past" title={entry.sql} onClick={() => use(entry.sql)}>
            <code>{entry.sql.replace(/\s+/g, ' ')}</code>
            <small class="muted num">{new Date(entry.at).toLocaleString('en-GB')} · {entry.rows === null ? 'failed' : plural(entry.rows, 'row')}</small>
          </button>
        ))}
        <button type="button" class="ghost small" onClick={() => {
          past.value = [];
          remember('sql.history', []);
        }}>Forget all</button>
      </div>
    </details>
  );
}

function Result() {
  const [shown, setShown] = useState(SHOWN);
  const result = outcome.value;
  useEffect(() => setShown(SHOWN), [result]);
  if (result.state === 'idle') return <Empty title="Nothing asked yet"><p>Write a query and press Ctrl+Enter. It can only read. The tables are to the side; <code>system.ledger</code>, <code>system.quarantine</code> and others say what happened.</p></Empty>;
  if (result.state === 'running') return <div class="empty" role="status"><p>Running for {duration(Math.max(0, Math.round((now.value - result.since) / 1000)))}…</p></div>;
  if (result.state === 'cancelled') return <Empty title="Cancelled"><p>The query was stopped, on the server too.</p></Empty>;
  if (result.state === 'failed') return <Failure error={result.error} />;
  const { answer } = result;
  return (
    <section aria-label="Result">
      <div class="row between wrap result-head">
        <span class="num" role="status">{plural(answer.row_count, 'row')} in {duration(answer.elapsed_seconds)}{answer.truncated && <span class="pill warn">cut at the limit</span>}</span>
        <span class="row">
          <span class="segments" role="group" aria-label="How to show it">
            <button type="button" aria-pressed={look.value === 'table'} onClick={() => (look.value = 'table')}>Table</button>
            <button type="button" aria-pressed={look.value === 'chart'} onClick={() => (look.value = 'chart')}>Chart</button>
          </span>
          <button type="button" class="small" onClick={() => download('result.csv', 'text/csv', toCsv(answer.columns.map((c) => c.name), answer.rows))}><Icon name="download" /> CSV</button>
        </span>
      </div>
      {look.value === 'chart'
        ? <Plot answer={answer} />
        : answer.rows.length === 0
          ? <Empty title="No rows"><p>The query is right, and nothing fits it.</p></Empty>
          : (
            <>
              <ResultTable columns={answer.columns} rows={answer.rows.slice(0, shown)} />
              {answer.rows.length > shown && <p class="row center"><button type="button" onClick={() => setShown(shown + 800)}>Show more of {plural(answer.rows.length, 'row')}</button></p>}
            </>
          )}
    </section>
  );
}

export function SqlView() {
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor | null>(null);
  const [ready, setReady] = useState(false);
  const [limit, setLimit] = useState(1000);
  const tables = useLoad((abort) => api.tables(abort), []);
  const [broken, setBroken] = useState<Error | null>(null);

  const runNow = useRef(() => {});
  runNow.current = () => {
    const sql = (editor.current?.selected().trim() || editor.current?.text() || draft.value).trim();
    if (sql) void run(sql, limit);
  };

  useEffect(() => {
    let gone = false;
    import('./editor').then(({ makeEditor }) => {
      if (gone || !host.current) return;
      editor.current = makeEditor(host.current, draft.value, {
        run: () => runNow.current(),
        change: (text) => {
          draft.value = text;
          remember('sql.draft', text);
        },
      });
      editor.current.focus();
      setReady(true);
    }, (error: Error) => setBroken(error));
    return () => {
      gone = true;
      editor.current?.destroy();
      editor.current = null;
    };
  }, []);

  // A link may bring a query along: it is written into the editor and run, and the address forgets it.
  const asked = route.value.query.q;
  useEffect(() => {
    if (!ready || !asked) return;
    editor.current?.set(asked);
    refine({ q: undefined });
    runNow.current();
  }, [ready, asked]);

  useEffect(() => {
    if (!ready || !tables.value) return;
    editor.current?.schema(Object.fromEntries(tables.value.tables.map((table) => [table.name, table.columns.map((column) => column.name)])));
  }, [ready, tables.value]);

  const busy = outcome.value.state === 'running';
  return (
    <Page title="SQL" what="Ask the tables, the quarantine and the system's own tables. Reads only.">
      {broken && <Failure error={broken} />}
      <div class="sql-body">
        <div class="sql-main">
          <div class="card editor" ref={host} />
          <div class="row wrap between">
            <span class="row">
              <button type="button" class="primary" onClick={() => runNow.current()}><Icon name="play" /> Run <kbd>Ctrl Enter</kbd></button>
              <button type="button" disabled={!busy} onClick={() => running?.abort()}>Cancel</button>
            </span>
            <label class="row">at most
              <select value={String(limit)} onChange={(event) => setLimit(Number(event.currentTarget.value))}>{LIMITS.map((n) => <option key={n} value={String(n)}>{plural(n, 'row')}</option>)}</select>
            </label>
          </div>
          <Result />
        </div>
        <div class="sql-side">
          <Schema tables={tables.value?.tables ?? []} insert={(text) => editor.current?.insert(text)} />
          <History use={(sql) => {
            editor.current?.set(sql);
            editor.current?.focus();
          }} />
        </div>
      </div>
    </Page>
  );
}
