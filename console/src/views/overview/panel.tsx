/** All there is to know about one node, beside the picture. */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { Account, GraphNode, Partition } from '../../api/types';
import { bytes, count, duration, percent, rate } from '../../lib/format';
import { href } from '../../router';
import { Scroll, StatePill, Time } from '../../ui/bits';
import { Balance } from '../../ui/balance';
import { Icon } from '../../ui/icons';
import { Spark } from '../../ui/spark';

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return <><dt>{name}</dt><dd class="num">{children}</dd></>;
}

function Partitions({ partitions }: { partitions: Partition[] }) {
  if (partitions.length === 0) return null;
  return (
    <section>
      <h3>Partitions</h3>
      <Scroll label="Partitions">
        <table class="grid compact">
          <thead><tr><th>no.</th><th class="right">to read</th><th class="right">in</th><th class="right">read</th><th>watermark</th><th>notes</th></tr></thead>
          <tbody>
            {partitions.map((p) => (
              <tr key={p.partition}>
                <td class="num">{p.partition}</td>
                <td class="num right">{count(p.lag)}</td>
                <td class="num right">{rate(p.input_rate)}</td>
                <td class="num right">{rate(p.read_rate)}</td>
                <td><Time at={p.watermark} /></td>
                <td>{[p.idle && 'idle', p.skewed && 'skewed', p.hot_key && `hot key ${p.hot_key}${p.hot_share ? ` (${percent(p.hot_share)})` : ''}`].filter(Boolean).join(', ') || '–'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}

function SourceFacts({ node }: { node: GraphNode }) {
  return (
    <>
      <dl class="facts">
        <Fact name="reads">{rate(node.rate)}</Fact>
        <Fact name="comes in">{rate(node.input_rate)}</Fact>
        <Fact name="records read">{count(node.rows)}</Fact>
        <Fact name="still to read">{node.lag_records != null ? `${count(node.lag_records)} records` : bytes(node.lag_bytes)}</Fact>
        <Fact name="caught up in">{node.caught_up ? 'caught up' : node.catch_up_seconds == null ? (node.falling_behind ? 'never at this rate' : '–') : duration(node.catch_up_seconds)}</Fact>
        <Fact name="watermark"><Time at={node.watermark} /></Fact>
        <Fact name="behind the clock">{duration(node.watermark_lag_seconds)}</Fact>
        <Fact name="held by">{node.held_by != null ? `partition ${node.held_by}` : '–'}</Fact>
        <Fact name="idle">{node.idle?.length ? `partition ${node.idle.join(', ')}` : 'none'}</Fact>
      </dl>
      <Partitions partitions={node.partitions ?? []} />
    </>
  );
}

function AccountFacts({ account }: { account: Account }) {
  return (
    <section>
      <h3>Account since the start</h3>
      <Balance account={account} />
    </section>
  );
}

function TableFacts({ node }: { node: GraphNode }) {
  const violations = Object.entries(node.violations ?? {});
  const refused = (node.account?.quarantined ?? 0) + (node.account?.late ?? 0);
  return (
    <>
      <dl class="facts">
        <Fact name="takes">{rate(node.rate)}</Fact>
        <Fact name="rows made">{count(node.rows)}</Fact>
        <Fact name="epoch">{count(node.epoch)}</Fact>
        <Fact name="watermark"><Time at={node.watermark} /></Fact>
        <Fact name="behind the clock">{duration(node.watermark_lag_seconds)}</Fact>
        <Fact name="state">{bytes(node.state_bytes)} in {count(node.state_rows)} rows</Fact>
      </dl>
      {node.account && <AccountFacts account={node.account} />}
      {violations.length > 0 && (
        <section>
          <h3>Rules broken</h3>
          <dl class="facts">{violations.map(([rule, rows]) => <Fact key={rule} name={rule}>{count(rows)}</Fact>)}</dl>
        </section>
      )}
      {node.operators && node.operators.length > 0 && (
        <section>
          <h3>What its operators remember</h3>
          <Scroll label="Operators">
            <table class="grid compact">
              <thead><tr><th>operator</th><th class="right">rows</th><th class="right">memory</th><th class="right">disk</th><th class="right">dropped</th></tr></thead>
              <tbody>
                {node.operators.map((o) => (
                  <tr key={o.id}><td>{o.id}</td><td class="num right">{count(o.rows)}</td><td class="num right">{bytes(o.bytes)}</td><td class="num right">{o.spilled > 0 ? bytes(o.spilled) : ''}</td><td class="num right">{count(o.evictions)}</td></tr>
                ))}
              </tbody>
            </table>
          </Scroll>
        </section>
      )}
      <p class="links">
        {node.stored !== false && <a href={href(`tables/${node.name}`)}>Rows and schema</a>}
        <a href={href('ledger', { table: node.name })}>Its ledger</a>
        {refused > 0 && <a href={href('quarantine', { table: node.name })}>Refused rows</a>}
      </p>
    </>
  );
}

function SinkFacts({ node }: { node: GraphNode }) {
  return (
    <>
      <dl class="facts">
        <Fact name="writes">{rate(node.rate)}</Fact>
        <Fact name="rows written">{count(node.rows)}</Fact>
        <Fact name="refused by it">{count(node.refused)}</Fact>
        <Fact name="delivery">{node.live ? 'live, after each tick' : 'with each epoch'}</Fact>
        <Fact name="epoch">{count(node.epoch)}</Fact>
        <Fact name="committed"><Time at={node.committed_at} relative /></Fact>
        <Fact name="commit took">{duration(node.commit_seconds)}</Fact>
        <Fact name="behind">{duration(node.lag_seconds)}</Fact>
      </dl>
      {(node.refused ?? 0) > 0 && <p class="links"><a href={href('quarantine', { reason: 'sink' })}>Rows it refused</a></p>}
    </>
  );
}

export function NodePanel({ node, onClose }: { node: GraphNode; onClose: () => void }) {
  const box = useRef<HTMLElement>(null);
  useEffect(() => {
    // The focus goes along, so that the keyboard is where the eye is.
    box.current?.focus();
  }, [node.id]);
  return (
    <aside
      ref={box}
      class="panel card"
      tabIndex={-1}
      aria-label={`${node.kind} ${node.name}`}
      onKeyDown={(event) => event.key === 'Escape' && onClose()}
    >
      <header class="row between">
        <h2><Icon name={node.kind} size={18} /> {node.name}</h2>
        <button type="button" class="ghost square" aria-label="Close" onClick={onClose}><Icon name="close" /></button>
      </header>
      <p class="row">
        <StatePill state={node.state} />
        <span class="muted">{node.kind}{node.zone ? `, ${node.zone}` : ''} · {node.connector}</span>
      </p>
      {node.error && !(node.holds_back && node.why === node.error) && <p class="failure preserve">{node.error}</p>}
      {node.holds_back && <p class="callout"><strong>Holds the rest back.</strong> {node.why}</p>}
      {node.kind !== 'static' && <Spark series={`${node.kind}.${node.name}.rate`} width={320} height={40} label={`rows a second of ${node.name}`} />}
      {node.kind === 'source' && <SourceFacts node={node} />}
      {node.kind === 'table' && <TableFacts node={node} />}
      {node.kind === 'sink' && <SinkFacts node={node} />}
      {node.kind === 'static' && <p class="muted">Looked up by the tables it leads to; it is not a stream, so it has no rate and no watermark.</p>}
    </aside>
  );
}
