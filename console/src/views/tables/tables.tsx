import { useEffect, useState } from 'preact/hooks';
import { api } from '../../api/client';
import type { Table } from '../../api/types';
import { bytes, count, duration, plural, short } from '../../lib/format';
import { href, refine, route } from '../../router';
import { graph } from '../../state/pipeline';
import { Empty, Failure, Loading, Page } from '../../ui/bits';
import { walkWithArrows } from '../../ui/list';
import { useLoad } from '../../ui/load';
import { ResultTable } from '../../ui/result-table';
import { LiveRows } from './live-rows';

const ZONES = ['gold', 'silver', 'bronze', 'system'];
const PAGE = 50;
const TABS = [['preview', 'Preview'], ['live', 'Live rows'], ['schema', 'Schema'], ['definition', 'Definition']] as const;

const zoneOf = (table: Table): string => (table.kind === 'system' ? 'system' : (table.zone ?? 'other'));

function List({ tables, chosen }: { tables: Table[]; chosen: string }) {
  const [text, setText] = useState('');
  const fitting = tables.filter((table) => table.name.toLowerCase().includes(text.trim().toLowerCase()));
  const zones = [...ZONES, 'other'].filter((zone) => fitting.some((table) => zoneOf(table) === zone));
  return (
    <nav class="card side-list" aria-label="Tables" onKeyDown={walkWithArrows}>
      <input type="search" data-search placeholder="Search tables" aria-label="Search tables" value={text} onInput={(event) => setText(event.currentTarget.value)} />
      {zones.map((zone) => (
        <section key={zone} aria-label={`Zone ${zone}`}>
          <h2><span class={`zone ${zone}`}>{zone}</span></h2>
          {fitting.filter((table) => zoneOf(table) === zone).map((table) => (
            <a key={table.name} data-item title={table.name} href={href(`tables/${table.name}`, { tab: route.value.query.tab })} aria-current={table.name === chosen ? 'page' : undefined}>
              <span>{table.name}</span>
              <span class="muted num">{table.stored === false ? 'not kept' : table.rows == null ? '' : short(table.rows)}</span>
            </a>
          ))}
        </section>
      ))}
      {fitting.length === 0 && <p class="muted pad">No table has “{text}” in its name.</p>}
    </nav>
  );
}

function Preview({ table }: { table: Table }) {
  const [offset, setOffset] = useState(0);
  useEffect(() => setOffset(0), [table.name]);
  const { value, error, reload } = useLoad((signal) => api.rows(table.name, { limit: PAGE, offset }, signal), [table.name, offset, graph.value?.epoch]);
  if (table.stored === false) return <Empty title="This table is kept nowhere"><p>Its rows only pass on to others. Look at its <button type="button" class="link" onClick={() => refine({ tab: 'live' })}>live rows</button>.</p></Empty>;
  if (error) return <Failure error={error} again={reload} />;
  if (!value) return <Loading />;
  if (value.rows.length === 0 && offset === 0) {
    return <Empty title="No rows yet"><p>Rows are here with the next commit after they arrive, at most {duration(graph.value?.epoch_interval_seconds)} later. A window's rows come when its window closes. See <button type="button" class="link" onClick={() => refine({ tab: 'live' })}>live rows</button>.</p></Empty>;
  }
  const more = value.truncated || (table.rows == null ? value.rows.length === PAGE : offset + value.rows.length < table.rows);
  return (
    <>
      <ResultTable columns={value.columns} rows={value.rows} offset={offset} />
      <div class="row between wrap">
        <span class="muted num">rows {count(offset + 1)} to {count(offset + value.rows.length)}{table.rows == null ? '' : ` of ${count(table.rows)}`} · read in {duration(value.elapsed_seconds)}</span>
        <span class="row">
          <button type="button" class="small" disabled={offset === 0} onClick={() => setOffset(Math.max(0, offset - PAGE))}>Back</button>
          <button type="button" class="small" disabled={!more} onClick={() => setOffset(offset + PAGE)}>Next</button>
        </span>
      </div>
    </>
  );
}

function Schema({ table }: { table: Table }) {
  return (
    <div class="card scroll-x">
      <table class="grid">
        <thead><tr><th>column</th><th>type</th><th>may be NULL</th><th>partitions the table</th></tr></thead>
        <tbody>
          {table.columns.map((column) => (
            <tr key={column.name}><td><b>{column.name}</b></td><td class="mono">{column.type}</td><td>{column.nullable === false ? 'no' : 'yes'}</td><td>{table.partitioned_by?.includes(column.name) ? 'yes' : ''}</td></tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Definition({ table }: { table: Table }) {
  return (
    <>
      {table.rules && table.rules.length > 0 && (
        <div class="card scroll-x">
          <table class="grid">
            <thead><tr><th>rule</th><th>expects</th><th>on violation</th></tr></thead>
            <tbody>{table.rules.map((rule) => <tr key={rule.name}><td><b>{rule.name}</b></td><td class="mono">{rule.text}</td><td>{rule.on_violation}</td></tr>)}</tbody>
          </table>
        </div>
      )}
      {table.sql ? <pre class="raw card pad">{table.sql}</pre> : <Empty title="Kept by Watershed itself"><p>System tables have no definition of yours. <code>docs/reference/system-tables.md</code> says what is in them.</p></Empty>}
    </>
  );
}

function Chosen({ table }: { table: Table }) {
  const system = table.kind === 'system';
  const tabs = TABS.filter(([id]) => !(system && id === 'live'));
  const tab = tabs.some(([id]) => id === route.value.query.tab) ? route.value.query.tab : 'preview';
  return (
    <div>
      <header class="row between wrap table-head">
        <div>
          <h2>{table.name} <span class={`zone ${zoneOf(table)}`}>{zoneOf(table)}</span></h2>
          <p class="muted num">
            {system ? 'a table of the system' : [
              table.rows == null ? 'nothing committed yet' : plural(table.rows, 'row'),
              table.bytes != null && bytes(table.bytes), table.files != null && plural(table.files, 'file'), table.inputs?.length && `from ${table.inputs.map((input) => input.replace(/^\w+:/, '')).join(', ')}`,
            ].filter(Boolean).join(' · ')}
          </p>
        </div>
        <a class="button" href={href('sql', { q: `SELECT * FROM ${quoted(table.name)} LIMIT 100` })}>Query it</a>
      </header>
      <div class="tabs" role="tablist" aria-label="What to see of the table">
        {tabs.map(([id, label]) => <button key={id} type="button" role="tab" aria-selected={tab === id} onClick={() => refine({ tab: id === 'preview' ? undefined : id })}>{label}</button>)}
      </div>
      <div role="tabpanel" aria-label={tab}>
        {tab === 'preview' && <Preview table={table} />}
        {tab === 'live' && <LiveRows key={table.name} table={table.name} />}
        {tab === 'schema' && <Schema table={table} />}
        {tab === 'definition' && <Definition table={table} />}
      </div>
    </div>
  );
}

/** A name as SQL wants it: quoted where it is not plain. */
export const quoted = (name: string): string =>
  name.split('.').map((part) => (/^[a-z_][a-z0-9_]*$/.test(part) ? part : `"${part.replaceAll('"', '""')}"`)).join('.');

export function TablesView() {
  const { value, error, reload } = useLoad((signal) => api.tables(signal), [graph.value?.epoch]);
  const what = 'What the tables hold, committed and arriving.';
  const tables = value?.tables ?? [];
  const first = tables.find((table) => table.kind === 'table') ?? tables[0];
  const chosen = route.value.rest === '' ? first : tables.find((table) => table.name === route.value.rest);
  return (
    <Page title="Tables" what={what}>
      {error && <Failure error={error} again={reload} />}
      {!value && !error && <Loading />}
      {value && tables.length === 0 && <Empty title="No tables"><p>Write a <code>CREATE TABLE … AS SELECT</code> into <code>pipelines.sql</code>, then start <code>watershed up</code> again.</p></Empty>}
      {tables.length > 0 && (
        <div class="with-list">
          <List tables={tables} chosen={chosen?.name ?? ''} />
          {chosen ? <Chosen table={chosen} /> : <Empty title={`There is no table “${route.value.rest}”`}><p>Choose one from the list.</p></Empty>}
        </div>
      )}
    </Page>
  );
}
