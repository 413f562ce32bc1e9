// The console against a real `watershed up`: one project, looked at and worked on as somebody on call would.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { noSidewaysScroll, openBrowser, openPage, Project, shot, until, violations } from './harness.mjs';

const VIEWS = ['overview', 'performance', 'ledger', 'quarantine', 'alerts', 'tables', 'sql', 'checkpoints'];

describe('the console of a running project', () => {
  let project, browser, page, trouble, refused;
  const record = (id, amount) => JSON.stringify({ transaction_id: id, customer_id: 'C1', amount, currency: 'USD', merchant: 'Shop', category: 'travel', status: 'approved', timestamp: new Date().toISOString(), metadata: { device: 'terminal' } });
  const settled = async (view) => {
    await page.locator(`main.view-${view} h1`).waitFor();
    await page.getByText('Loading…').waitFor({ state: 'detached' });
  };
  const heading = (name) => page.getByRole('heading', { level: 1, name }).waitFor();

  before(async () => {
    project = new Project();
    await project.up();
    browser = await openBrowser();
    ({ page, trouble } = await openPage(browser, project.url));
  });
  after(async () => {
    await browser?.close();
    await project?.end();
  });

  const nothingBad = () => assert.deepEqual(trouble.splice(0), []);

  test('every view of a project without records says what it would show and what to do', async () => {
    await page.getByText('No record has arrived yet').waitFor();
    for (const [view, text] of [['ledger', 'No accounts'], ['quarantine', 'Nothing was refused'], ['alerts', 'Nothing is open'], ['tables', 'No rows yet'], ['sql', 'Nothing asked yet'], ['checkpoints', 'No checkpoint yet'], ['performance', 'No epoch yet']]) {
      await page.goto(`${project.url}/#/${view}`);
      await page.getByText(text).first().waitFor();
    }
    nothingBad();
  });

  test('records that arrive change the page within moments, without a reload', async () => {
    await page.goto(`${project.url}/#/overview`);
    await page.getByText('No record has arrived yet').waitFor();
    await page.evaluate(() => (window.untouched = true));
    await project.send(project.sample());
    await page.getByText('No record has arrived yet').waitFor({ state: 'detached' });
    await page.getByText('Everything up to epoch').waitFor();
    await page.getByText('All is well').waitFor();
    assert.equal(await page.evaluate(() => window.untouched), true, 'the page was loaded once');
    nothingBad();
  });

  test('a card of the graph opens a panel whose account adds up', async () => {
    await page.locator('[data-node="table:clean_transactions"]').click();
    const panel = page.getByRole('complementary', { name: 'table clean_transactions' });
    await panel.getByText('adds up').waitFor();
    const read = await panel.locator('tr', { hasText: 'read' }).first().locator('td').first().textContent();
    assert.equal(read, '2,000');
    await shot(page, 'overview-panel-light');
    await page.keyboard.press('Escape');
    await panel.waitFor({ state: 'detached' });
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('data-node')), 'table:clean_transactions', 'the focus goes back to the card');
    nothingBad();
  });

  test('the keyboard reaches every view, the search field, the cards and the help', async () => {
    for (const [key, name] of [['p', 'Performance'], ['l', 'Ledger'], ['q', 'Quarantine'], ['a', 'Alerts'], ['t', 'Tables'], ['s', 'SQL'], ['c', 'Checkpoints'], ['o', 'Overview']]) {
      // The SQL editor takes the focus, and keys typed there are text.
      await page.evaluate(() => document.activeElement?.blur());
      await page.keyboard.press('g');
      await page.keyboard.press(key);
      await heading(name);
      if (name === 'SQL') await page.locator('.cm-content').waitFor();
    }
    await page.keyboard.press('g');
    await page.keyboard.press('q');
    await heading('Quarantine');
    await page.keyboard.press('/');
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('aria-label')), 'Search in detail and raw bytes');
    await page.keyboard.type('g o');
    assert.equal(await page.evaluate(() => location.hash.split('?')[0]), '#/quarantine', 'keys in a field are text');
    await page.evaluate(() => document.activeElement?.blur());
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keys and help' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.goto(`${project.url}/#/overview`);
    await page.locator('[data-node="source:transactions"]').focus();
    await page.keyboard.press('ArrowRight');
    assert.notEqual(await page.evaluate(() => document.activeElement?.getAttribute('data-node')), 'source:transactions');
    nothingBad();
  });

  test('the ledger shows each account as a sum that comes out', async () => {
    await page.goto(`${project.url}/#/ledger?table=clean_transactions`);
    const row = page.locator('table.ledger tbody tr').first();
    await row.waitFor();
    const figures = (await row.locator('td').allTextContents()).slice(2, 8).map((text) => Number(text.replace(/\D/g, '')));
    assert.equal(figures[0], figures.slice(1).reduce((sum, n) => sum + n, 0));
    assert.deepEqual(figures, [2000, 1956, 0, 23, 5, 16]);
    await row.getByText('adds up').waitFor();
    nothingBad();
  });

  test('a query by Ctrl+Enter becomes a table, a chart of three kinds, and CSV', async () => {
    await page.goto(`${project.url}/#/sql`);
    const editor = page.locator('.cm-content');
    await editor.click();
    await page.keyboard.press('Control+a');
    await page.keyboard.insertText('SELECT window_start, status, transactions, total FROM per_minute ORDER BY 1, 2 LIMIT 20');
    await page.keyboard.press('Control+Enter');
    await page.getByText('20 rows in').waitFor();
    assert.equal(await page.locator('table.result tbody tr').count(), 20);
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'CSV' }).click()]);
    const chunks = [];
    for await (const chunk of await file.createReadStream()) chunks.push(chunk);
    const lines = Buffer.concat(chunks).toString().trimEnd().split('\r\n');
    assert.equal(lines[0], 'window_start,status,transactions,total');
    assert.equal(lines.length, 21);
    await page.getByRole('button', { name: 'Chart' }).click();
    await page.getByRole('img', { name: 'Line chart of transactions by window_start, 20 points' }).locator('canvas').waitFor();
    await shot(page, 'sql-line-light');
    await page.getByRole('button', { name: 'Scatter' }).click();
    await page.getByRole('img', { name: /Scatter chart of total by transactions, 20 points/ }).waitFor();
    await page.getByRole('button', { name: 'Bars' }).click();
    assert.equal(await page.locator('.bars li').count(), 20);
    nothingBad();
  });

  test('a wrong query is answered in words, and a long one can be cancelled', async () => {
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+a');
    await page.keyboard.insertText('SELECT nothing FROM nowhere');
    await page.keyboard.press('Control+Enter');
    await page.locator('main .failure code', { hasText: 'CLI0066' }).waitFor();
    await page.locator('main .failure', { hasText: 'There is no table "nowhere"' }).locator('pre').waitFor();
    const refused = trouble.splice(0);
    assert.ok(refused.every((one) => /400/.test(one)), `only the refusal itself: ${refused}`);
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+a');
    await page.keyboard.insertText('SELECT count(*) FROM clean_transactions a, clean_transactions b, clean_transactions c WHERE a.amount + b.amount > c.amount');
    await page.keyboard.press('Control+Enter');
    await page.getByText(/^Running for/).waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('The query was stopped').waitFor();
    await page.getByText('History').click();
    await page.locator('.past', { hasText: 'per_minute' }).click();
    assert.match(await page.locator('.cm-content').textContent(), /per_minute/);
    nothingBad();
  });

  test('rows of a table can be paged through, and watched as they are made', async () => {
    await page.goto(`${project.url}/#/tables/clean_transactions`);
    await page.getByText('rows 1 to 50 of 1,956').waitFor();
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('rows 51 to 100 of 1,956').waitFor();
    await page.getByRole('tab', { name: 'Schema' }).click();
    await page.getByRole('cell', { name: 'transaction_id' }).waitFor();
    await page.getByRole('tab', { name: 'Definition' }).click();
    await page.getByText('amount_in_range').first().waitFor();
    await page.getByRole('tab', { name: 'Live rows' }).click();
    await page.getByText('Waiting for rows').waitFor();
    // The topic is subscribed by a message that the server may see after the record: send until a row shows.
    let sent = 0;
    await until('a live row', async () => {
      await project.send(record(`live-${sent++}`, 12.5));
      return (await page.locator('[aria-label="Live rows"] td', { hasText: /^live-\d+$/ }).count()) > 0;
    });
    nothingBad();
  });

  test('the newest checkpoint can be opened, and the audit agrees', async () => {
    await page.goto(`${project.url}/#/checkpoints`);
    await page.locator('tr.pick').first().focus();
    await page.keyboard.press('Enter');
    await page.getByRole('complementary', { name: /Checkpoint/ }).getByText('clean_transactions/1:dedup').waitFor();
    await page.getByRole('button', { name: 'Verify now' }).click();
    await page.getByText('everything agrees').waitFor();
    nothingBad();
  });

  test('charts draw what was measured, and an objective is drawn in and kept', async () => {
    await page.goto(`${project.url}/#/performance`);
    await page.getByRole('img', { name: /^Door to lake/ }).locator('canvas').waitFor();
    const lake = page.locator('.chart-with-foot', { hasText: 'Door to lake' });
    await lake.getByRole('button', { name: 'Set an objective' }).click();
    await lake.getByRole('spinbutton').fill('60');
    await lake.getByRole('button', { name: 'Set', exact: true }).click();
    await lake.getByText(/kept 100 % of the time/).waitFor();
    await page.reload();
    await lake.getByText(/Objective 1 min 0 s/).waitFor();
    await page.getByRole('button', { name: '2 hours' }).click();
    await page.getByRole('listbox', { name: /Epochs/ }).getByRole('option').first().waitFor();
    nothingBad();
  });

  test('both themes and a window of 400 px show every view without sideways scrolling', async () => {
    await page.goto(`${project.url}/#/overview`);
    await page.getByRole('button', { name: 'Use the dark theme' }).click();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
    await page.reload();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark', 'the choice is remembered');
    for (const width of [1440, 400]) {
      await page.setViewportSize({ width, height: 900 });
      for (const view of VIEWS) {
        await page.goto(`${project.url}/#/${view}`);
        await settled(view);
        await shot(page, `${view}-dark-${width}`);
        await noSidewaysScroll(page, `${view} at ${width} px`);
      }
    }
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.getByRole('button', { name: 'Use the light theme' }).click();
    nothingBad();
  });

  test('axe finds nothing against the rules of accessibility in any view, in either theme', async () => {
    for (const name of ['dark', 'light']) {
      await page.goto(`${project.url}/#/overview`);
      const toggle = page.getByRole('button', { name: `Use the ${name} theme` });
      if (await toggle.count()) await toggle.click();
      for (const view of [...VIEWS, 'overview?node=table:clean_transactions']) {
        await page.goto(`${project.url}/#/${view}`);
        await settled(view.split('?')[0]);
        assert.deepEqual(await violations(page), [], `${view}, ${name}`);
      }
    }
    nothingBad();
  });

  test('a row is refused as it breaks a rule', async () => {
    // Of now: an old one would be late when it is replayed, for live rows have moved the watermark.
    refused = record('mend-me', -5);
    await project.send(refused);
    await page.goto(`${project.url}/#/quarantine?text=mend-me`);
    await page.getByText('1 of 1 row').waitFor();
    nothingBad();
  });

  test('a page that lost its server says since when it is stale, and lives on by itself when the server is back', async () => {
    await page.goto(`${project.url}/#/overview`);
    await page.getByText('live', { exact: true }).waitFor();
    await page.evaluate(() => (window.untouched = true));
    await project.down();
    await page.getByText(/Stale since \d\d:\d\d:\d\d/).waitFor();
    await page.getByText('Not known: no news since').waitFor();
    assert.equal(await page.getByText('All is well').count(), 0, 'old news is not told as news');
    await shot(page, 'overview-stale');
    // Somebody mends the rule meanwhile.
    project.edit('pipelines.sql', (text) => text.replace('EXPECT (amount > 0 AND amount < 1000000)', 'EXPECT (amount > -1000000 AND amount < 1000000)'));
    await project.up();
    await page.getByText(/Stale since/).waitFor({ state: 'detached' });
    await page.getByText('live', { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => window.untouched), true, 'the page was loaded once');
    // Requests to a server that is down fail: that is the point here.
    trouble.length = 0;
  });

  test('a refused row is found, replayed after the rule is mended, and is in the table then', async () => {
    await page.goto(`${project.url}/#/quarantine`);
    await page.getByRole('button', { name: /^violation/ }).click();
    await page.getByRole('searchbox', { name: 'Search in detail and raw bytes' }).fill('amount_in_range');
    const rows = page.locator('table.quarantine tbody tr');
    await page.getByText('9 of 9 rows').waitFor();
    await page.getByRole('searchbox', { name: 'Search in detail and raw bytes' }).fill('mend-me');
    await page.getByText('1 of 1 row').waitFor();
    await rows.first().click();
    const detail = page.getByRole('complementary', { name: 'Refused row' });
    const raw = JSON.parse(await detail.locator('pre').textContent());
    assert.deepEqual(raw, JSON.parse(refused), 'the raw row is shown as it came');
    await shot(page, 'quarantine-light');
    await rows.first().focus();
    await page.keyboard.press('Space');
    await page.keyboard.press('r');
    const dialog = page.getByRole('dialog', { name: 'Replay quarantined rows' });
    await dialog.getByText('1 row').first().waitFor();
    await dialog.getByRole('button', { name: 'Replay 1 row' }).click();
    await dialog.getByText('taken', { exact: true }).waitFor();
    await dialog.getByRole('button', { name: 'Close' }).last().click();
    await rows.first().getByText('replayed').waitFor();
    assert.equal(await rows.first().getByRole('checkbox').isDisabled(), true, 'a row goes once');
    await page.goto(`${project.url}/#/sql?q=${encodeURIComponent(`SELECT amount FROM clean_transactions WHERE transaction_id = 'mend-me'`)}`);
    await page.getByText('1 row in').waitFor();
    assert.equal(Number(await page.locator('table.result tbody td').nth(1).textContent()), -5);
    await page.goto(`${project.url}/#/ledger?table=clean_transactions`);
    await page.getByText('replay:transactions').first().waitFor();
    nothingBad();
  });
});

describe('a project with tokens', () => {
  let project, browser;
  before(async () => {
    project = new Project();
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await project?.end();
  });

  test('asks for one, says no to a wrong one, and shows a viewer what needs another role', async () => {
    const viewer = project.token('vera', 'viewer');
    const ingest = project.token('door', 'ingest');
    await project.up();
    const { page, trouble } = await openPage(browser, project.url);
    await page.getByLabel('Access token').fill('ws_wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').waitFor();
    await shot(page, 'login-refused');
    trouble.length = 0;
    await page.getByLabel('Access token').fill(viewer);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByText('vera · viewer').waitFor();
    await project.send(project.sample(), ingest);
    await page.goto(`${project.url}/#/quarantine`);
    await page.locator('table.quarantine tbody tr').first().waitFor();
    assert.equal(await page.getByRole('button', { name: 'Replay all' }).isDisabled(), true);
    assert.deepEqual(trouble, []);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('Access token').waitFor();
  });
});
