// States that a small healthy project does not show, against the development stand-in: trouble, alerts, a busy pipeline.
// What a reader must be able to rely on is in real.spec.mjs; here it is how the page shows what it is told.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { mock, noSidewaysScroll, openBrowser, openPage, shot } from './harness.mjs';

describe('the console of a pipeline in trouble', () => {
  let server, browser, page, trouble;
  before(async () => {
    server = await mock();
    browser = await openBrowser();
    ({ page, trouble } = await openPage(browser, server.url));
  });
  after(async () => {
    await browser?.close();
    server?.end();
  });

  test('the verdict names what is wrong, and leads to what holds the rest back', async () => {
    await page.getByText('3 things need a look').waitFor();
    assert.match(await page.locator('[data-node="sink:warehouse"]').textContent(), /retrying.*holds the rest back/);
    await page.getByRole('button', { name: /^Held back/ }).click();
    await page.getByRole('complementary', { name: 'sink warehouse' }).getByText('Holds the rest back').waitFor();
    await shot(page, 'overview-trouble-light');
    assert.deepEqual(trouble, []);
  });

  test('an alert is acknowledged, silenced, and has a runbook', async () => {
    await page.goto(`${server.url}/#/alerts`);
    const alert = page.locator('[data-alert="warehouse-behind"]');
    assert.match(await alert.getByRole('link', { name: 'Runbook' }).getAttribute('href'), /^https:/);
    await alert.getByRole('button', { name: 'Acknowledge' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Acknowledge' }).click();
    await alert.getByText('Acknowledged by').waitFor();
    await alert.getByRole('button', { name: 'Silence' }).click();
    await page.getByRole('dialog').getByLabel('Reason').fill('a planned restart');
    await page.getByRole('dialog').getByRole('button', { name: 'Silence' }).click();
    await alert.getByText('Silenced until').waitFor();
    await shot(page, 'alerts-light');
    assert.deepEqual(trouble, []);
  });

  test('numbers that change move nothing on the page', async () => {
    await page.goto(`${server.url}/#/overview`);
    await page.getByText('need a look').waitFor();
    // Wait for the first figures, then watch the browser's own account of layout shifts while they go on changing.
    await page.locator('[data-node="sink:hot"]').waitFor();
    const changes = await page.evaluate(async () => {
      let shift = 0;
      new PerformanceObserver((list) => list.getEntries().forEach((entry) => (shift += entry.value))).observe({ type: 'layout-shift' });
      const rate = document.querySelector('.stat-value');
      const seen = new Set();
      while (seen.size < 6) {
        seen.add(rate.textContent);
        await new Promise(requestAnimationFrame);
      }
      return { shift, seen: seen.size };
    });
    assert.equal(changes.seen, 6, 'the figures did change');
    assert.ok(changes.shift < 0.01, `layout shift ${changes.shift}`);
  });

  test('a narrow window shows the graph as a column', async () => {
    await page.setViewportSize({ width: 400, height: 850 });
    await page.goto(`${server.url}/#/overview`);
    await page.locator('[data-node="sink:hot"]').waitFor();
    const lefts = await page.locator('[data-node]').evaluateAll((cards) => new Set(cards.map((card) => Math.round(card.getBoundingClientRect().left))).size);
    assert.equal(lefts, 1);
    await noSidewaysScroll(page, 'the overview');
    await shot(page, 'overview-trouble-400');
  });
});
