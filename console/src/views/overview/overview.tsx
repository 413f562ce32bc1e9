import { useState } from 'preact/hooks';
import { connection } from '../../api/live';
import { bytes, count, duration, percent, plural, rate, short } from '../../lib/format';
import { go, href, refine, route } from '../../router';
import { alerts, firing, open } from '../../state/alerts';
import { now } from '../../state/clock';
import { graph, nodesById, quarantined } from '../../state/pipeline';
import { latest, revision } from '../../state/series';
import type { Graph } from '../../api/types';
import { Empty, Loading, Page, Stat, Time } from '../../ui/bits';
import { Icon } from '../../ui/icons';
import { Spark } from '../../ui/spark';
import { GraphPicture } from './graph';
import { NodePanel } from './panel';
import { problemsOf, type Problem } from './verdict';

const SHOWN_PROBLEMS = 4;

/** While nothing arrives, nobody can say that all is well; only that it was. */
function LastVerdict({ since, problems }: { since: number; problems: Problem[] }) {
  return (
    <section class="verdict-box" aria-label="Verdict">
      <Icon name="retrying" size={22} />
      <div>
        <h2>Not known: no news since <Time at={since * 1000} /></h2>
        <p class="muted">{problems.length === 0 ? 'All was well then.' : `${plural(problems.length, 'thing')} needed a look then: ${problems[0]!.text}`}</p>
      </div>
    </section>
  );
}

function VerdictBox({ g, problems, choose }: { g: Graph; problems: Problem[]; choose: (id: string) => void }) {
  const [all, setAll] = useState(false);
  const link = connection.value;
  if (link.state === 'stale') return <LastVerdict since={link.since} problems={problems} />;
  const worst = problems[0]?.tone;
  if (!worst) {
    return (
      <section class="verdict-box good" aria-label="Verdict">
        <Icon name="ok" size={22} />
        <div>
          <h2>All is well</h2>
          <p>{g.epoch === null ? 'Nothing is committed yet: the first epoch closes soon after the first record.' : <>Everything up to epoch <b class="num">{count(g.epoch)}</b> is committed, <Time at={g.committed_at} relative />. Nothing waits.</>}</p>
        </div>
      </section>
    );
  }
  const shown = all ? problems : problems.slice(0, SHOWN_PROBLEMS);
  return (
    <section class={`verdict-box ${worst}`} aria-label="Verdict">
      <Icon name={worst === 'bad' ? 'failed' : 'behind'} size={22} />
      <div>
        <h2>{plural(problems.length, 'thing needs', 'things need')} a look</h2>
        <ul>
          {shown.map((problem) => (
            <li key={problem.text} class={problem.tone}>
              {problem.node ? <button type="button" class="link" onClick={() => choose(problem.node!)}>{problem.text}</button>
                : problem.link ? <a href={problem.link}>{problem.text}</a> : problem.text}
            </li>
          ))}
        </ul>
        {problems.length > SHOWN_PROBLEMS && <button type="button" class="link small" onClick={() => setAll(!all)}>{all ? 'fewer' : `${problems.length - SHOWN_PROBLEMS} more`}</button>}
      </div>
    </section>
  );
}

function Headline({ g }: { g: Graph }) {
  revision.value;
  const reasons = Object.entries(g.quarantine).filter(([, rows]) => rows > 0).map(([reason, rows]) => `${reason} ${short(rows)}`).join(' · ');
  const share = g.state_bytes && g.memory_limit ? g.state_bytes / g.memory_limit : null;
  return (
    <section class="stats" aria-label="Headline numbers">
      <Stat label="Records a second" value={rate(g.rate)} note={<Spark series="rate" label="records a second" />} />
      <Stat label="Latency, 99 of 100" value={duration(latest('latency.processed.p99'))} note={latest('latency.processed.p99') === null && !g.rate ? 'no records now' : <Spark series="latency.processed.p99" label="latency" />} title="From a record's arrival until it is through the plan (p99)" />
      <Stat label="Records since the start" value={short(g.records)} note={bytes(g.bytes)} title={count(g.records)} />
      <Stat label="Watermark behind" value={duration(g.watermark_lag_seconds)} note={<Time at={g.watermark} />} title="How far event time is behind the clock" />
      <Stat label="Last commit" value={<Time at={g.committed_at} relative />} note={`epoch ${count(g.epoch)} · took ${duration(g.commit_seconds)}`} />
      <Stat label="State" value={bytes(g.state_bytes)} note={share === null ? undefined : `${percent(share)} of ${bytes(g.memory_limit)}`} tone={share !== null && share > 0.8 ? 'warn' : undefined} />
      <a class="stat-link" href={href('quarantine')}><Stat label="Refused since the start" value={short(quarantined.value)} note={reasons || 'nothing refused'} title={reasons} /></a>
      <a class="stat-link" href={href('alerts')}>
        <Stat label="Open alerts" value={alerts.value?.available === false ? '–' : open.value.length} note={alerts.value?.available === false ? 'none are set up' : firing.value[0]?.name ?? 'none firing'} tone={firing.value.length ? 'bad' : undefined} />
      </a>
    </section>
  );
}

export function OverviewView() {
  const g = graph.value;
  const chosen = route.value.query.node ?? null;
  const choose = (node: string) => refine({ node: node === chosen ? undefined : node });
  if (!g) return <Loading />;
  const node = chosen ? nodesById.value.get(chosen) : undefined;
  const close = () => {
    refine({ node: undefined });
    document.querySelector<HTMLElement>(`[data-node="${CSS.escape(chosen ?? '')}"]`)?.focus();
  };
  return (
    <Page title="Overview" what="The pipeline as it is now. Open a card to see more of it.">
      <div class={`overview-body ${node ? 'with-panel' : ''}`}>
        <div class="overview-main">
          <VerdictBox g={g} problems={problemsOf(g, firing.value, now.value)} choose={(id) => go('overview', { node: id })} />
          <Headline g={g} />
          <section class="card graph-card" aria-label="Pipeline">
            {g.nodes.length === 0
              ? <Empty title="No sources, no tables"><p>This project defines nothing yet. Write a <code>CREATE SOURCE</code> and a <code>CREATE TABLE</code> into <code>pipelines.sql</code>, then start <code>watershed up</code> again.</p></Empty>
              : <GraphPicture graph={g} chosen={chosen} choose={choose} />}
            {g.nodes.length > 0 && g.records === 0 && <p class="hint">No record has arrived yet. For an <code>http</code> source: <code>curl -X POST --data-binary @data/sample.ndjson {location.origin}/v1/ingest/SOURCE</code></p>}
          </section>
        </div>
        {node && <NodePanel node={node} onClose={close} />}
      </div>
    </Page>
  );
}
