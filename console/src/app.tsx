/** The frame around the views: navigation, the state of pipeline and connection, keys, login. */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { connection, reconnectNow } from './api/live';
import { ago, plural } from './lib/format';
import { bind, focusSearch } from './lib/keys';
import { go, href, route } from './router';
import { firing, watchAlerts } from './state/alerts';
import { now } from './state/clock';
import { graph, quarantined, watchGraph } from './state/pipeline';
import { watchSeries } from './state/series';
import { logOut, mustLogIn, session, unreachable } from './state/session';
import { theme, toggleTheme } from './state/theme';
import { Loading, Pill } from './ui/bits';
import { Icon } from './ui/icons';
import { Help } from './views/help';
import { Login } from './views/login';
import { VIEWS } from './views/registry';
import markUrl from './icon.svg';

const helpOpen = signal(false);

function ConnectionState() {
  const state = connection.value;
  if (state.state === 'live') return <Pill tone="good" icon="ok" title="Numbers arrive as they change">live</Pill>;
  if (state.state === 'connecting') return <Pill tone="quiet" icon="retrying">connecting</Pill>;
  return <Pill tone="bad" icon="failed" title={state.why}>stale</Pill>;
}

/** Over the whole width: nobody shall act on old numbers without knowing it. */
function StaleBanner() {
  const state = connection.value;
  if (state.state !== 'stale') return null;
  return (
    <div class="banner bad" role="alert">
      <Icon name="retrying" />
      <span>
        <strong>Stale since {new Date(state.since).toLocaleTimeString('en-GB')}</strong> ({ago(state.since * 1000, now.value)}): {state.why}.
        What you see is as of then. Trying again by itself.
      </span>
      <button type="button" class="small" onClick={reconnectNow}>Try now</button>
    </div>
  );
}

function PipelineState() {
  const g = graph.value;
  if (!g) return null;
  if (connection.value.state === 'stale') return <Pill tone="quiet" icon="idle">was {g.state}</Pill>;
  const bad = g.state === 'failed' || g.error !== null;
  return (
    <Pill tone={bad ? 'bad' : g.state === 'running' ? 'good' : 'quiet'} icon={bad ? 'failed' : g.state === 'running' ? 'play' : 'idle'}>
      {g.state}
    </Pill>
  );
}

function Badge({ id }: { id: string }) {
  if (id === 'alerts' && firing.value.length > 0) return <span class="badge bad num">{firing.value.length}</span>;
  if (id === 'quarantine' && quarantined.value > 0) return <span class="badge num">{quarantined.value > 999 ? '999+' : quarantined.value}</span>;
  return null;
}

function Navigation() {
  const here = route.value.view;
  useEffect(() => {
    // On narrow screens the row of views scrolls sideways.
    document.querySelector('.nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
  }, [here]);
  return (
    <nav class="nav" aria-label="Views">
      {VIEWS.map((entry) => (
        <a
          key={entry.id}
          href={href(entry.id)}
          title={`${entry.question}  (g ${entry.key})`}
          aria-current={route.value.view === entry.id ? 'page' : undefined}
        >
          <Icon name={entry.icon} size={18} />
          <span>{entry.label}</span>
          <Badge id={entry.id} />
        </a>
      ))}
    </nav>
  );
}

function Header() {
  const who = session.value;
  return (
    <header class="top">
      <a class="brand" href={href('overview')} title="Overview">
        <img src={markUrl} alt="" width="24" height="24" />
        <span class="brand-name">{who?.pipeline ?? graph.value?.pipeline ?? 'Watershed'}</span>
      </a>
      <PipelineState />
      <ConnectionState />
      <span class="grow" />
      {who?.required && who.authenticated && (
        <span class="who" title={`role: ${who.role}`}>
          <Icon name="user" /> <span class="wide-only">{who.name} · {who.role}</span>
          <button type="button" class="ghost small" onClick={() => void logOut()}>Log out</button>
        </span>
      )}
      <button type="button" class="ghost square" aria-label={`Use the ${theme.value === 'dark' ? 'light' : 'dark'} theme`} title="Theme" onClick={toggleTheme}>
        <Icon name={theme.value === 'dark' ? 'sun' : 'moon'} size={18} />
      </button>
      <button type="button" class="ghost square" aria-label="Keys and help" title="Keys and help (?)" onClick={() => (helpOpen.value = true)}>
        <Icon name="help" size={18} />
      </button>
    </header>
  );
}

function Shell() {
  useEffect(() => {
    const stops = [watchGraph(), watchAlerts(), watchSeries('1s')];
    return () => stops.forEach((stop) => stop());
  }, []);
  const entry = VIEWS.find((view) => view.id === route.value.view);
  const View = entry?.view;
  const title = entry?.label ?? 'Not found';
  const bad = firing.value.length;
  useEffect(() => {
    document.title = `${bad > 0 ? `(${bad}) ` : ''}${title} · ${session.value?.pipeline ?? 'Watershed'}`;
  }, [title, bad]);
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.querySelector<HTMLElement>('#main')?.focus();
      }}>Skip to the content</a>
      <Header />
      <Navigation />
      <main id="main" tabIndex={-1} class={`view-${entry?.id} ${connection.value.state === 'stale' ? 'stale' : ''}`}>
        <StaleBanner />
        {View ? <View key={entry.id} /> : <p class="empty">There is no such view. <a href={href('overview')}>To the overview</a></p>}
      </main>
      <div class="sr-only" role="status" aria-live="polite">
        {bad > 0 ? `${plural(bad, 'alert')} firing` : ''}
      </div>
    </div>
  );
}

export function App() {
  useEffect(
    () =>
      bind({
        ...Object.fromEntries(VIEWS.map((entry) => [`g ${entry.key}`, () => go(entry.id)])),
        '/': focusSearch,
        '?': () => (helpOpen.value = true),
        T: toggleTheme,
      }),
    [],
  );
  if (!session.value) {
    return unreachable.value
      ? <div class="alone"><p role="alert"><strong>The server cannot be reached.</strong></p><p class="muted">Is <code>watershed up</code> running? This page tries again by itself.</p></div>
      : <div class="alone"><Loading /></div>;
  }
  return (
    <>
      {mustLogIn.value ? <Login /> : <Shell />}
      {helpOpen.value && <Help onClose={() => (helpOpen.value = false)} />}
    </>
  );
}
