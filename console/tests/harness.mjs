// Starts what a spec needs: a real `watershed up` of a small project, a browser, and an ear for everything that must not
// happen on a page: console errors, exceptions, failed requests.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const BIN = process.env.WATERSHED_BIN;
export const SHOTS = process.env.CONSOLE_SHOTS ?? mkdtempSync(join(tmpdir(), 'watershed-console-'));
mkdirSync(SHOTS, { recursive: true });
const PATIENCE = 10_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Polls until `check` gives something. Time bounds a hang; it decides nothing. */
export async function until(what, check) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await check().catch(() => undefined);
    if (found) return found;
    if (Date.now() > end) assert.fail(`waited in vain for ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

export function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function watershed(...args) {
  const done = spawnSync(BIN, args, { encoding: 'utf8' });
  assert.equal(done.status, 0, `watershed ${args.join(' ')}: ${done.stderr}`);
  return done.stdout;
}

/** A project of the template `transactions` in a folder of its own, with epochs of a second. */
export class Project {
  constructor() {
    assert.ok(BIN, 'WATERSHED_BIN says which program to test; scripts/test-console sets it');
    this.folder = mkdtempSync(join(tmpdir(), 'watershed-project-'));
    this.path = join(this.folder, 'shop');
    watershed('init', this.path, '--template', 'transactions');
    this.edit('watershed.toml', (text) => text.replace(/^# epoch_interval = .*/m, 'epoch_interval = "1s"'));
    // How full the disk of the machine under test is belongs to no test.
    this.edit('watershed.toml', (text) => `${text}\n[alerts.default.disk-nearly-full]\nenabled = false\n`);
  }

  edit(file, change) {
    const path = join(this.path, file);
    const before = readFileSync(path, 'utf8');
    const after = change(before);
    assert.notEqual(after, before, `the change of ${file} changes it`);
    writeFileSync(path, after);
  }

  token(name, role) {
    return watershed('token', 'create', '--name', name, '--role', role, '--project', this.path).match(/ws_\S+/)[0];
  }

  async up(port) {
    this.port = port ?? this.port ?? (await freePort());
    this.url = `http://127.0.0.1:${this.port}`;
    this.process = spawn(BIN, ['up', '--project', this.path, '--listen', `127.0.0.1:${this.port}`], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.log = '';
    this.process.stderr.on('data', (text) => (this.log += text));
    await until(`${this.url} to answer`, async () => (await fetch(`${this.url}/healthz`)).ok);
    const front = await (await fetch(this.url, { headers: { accept: 'text/html' } })).text();
    assert.match(front, /id="app"/, `${BIN} has no console built in: build console/ first, then the program`);
  }

  async down() {
    if (!this.process || this.process.exitCode !== null) return;
    const gone = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGTERM');
    await gone;
  }

  async end() {
    await this.down();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async send(text, token) {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const answer = await fetch(`${this.url}/v1/ingest/transactions`, { method: 'POST', body: text, headers });
    assert.equal(answer.status, 200, await answer.text());
  }

  sample() {
    return readFileSync(join(this.path, 'data/sample.ndjson'));
  }
}

/** The development stand-in, for states that a healthy program does not show. */
export async function mock(...args) {
  const child = spawn(process.execPath, [new URL('../mock/server.mjs', import.meta.url).pathname, '--port', '0', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise((resolve) => child.stdout.once('data', resolve));
  return { url: JSON.parse(String(line)).url, end: () => child.kill() };
}

export async function openBrowser() {
  const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path));
  assert.ok(executablePath, 'Chromium is not installed; scripts/setup --test installs it');
  // Without a sandbox only because tests often run as root in a container; nothing but our own page is opened.
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}

/** A page, and `trouble`: all that should not have happened on it. */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const trouble = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && trouble.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => trouble.push(`exception: ${error.message}`));
  page.on('requestfailed', (request) => request.failure()?.errorText !== 'net::ERR_ABORTED' && trouble.push(`request: ${request.url()} ${request.failure()?.errorText}`));
  page.on('response', (response) => response.status() >= 400 && trouble.push(`answer: ${response.status()} ${response.url()}`));
  await page.goto(url);
  return { page, context, trouble };
}

export async function shot(page, name) {
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** What axe has against a page, in short. */
export async function violations(page) {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.target.join(' ')} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
  });
}

export async function noSidewaysScroll(page, what) {
  const surplus = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(surplus <= 0, `${what} is ${surplus} px wider than the window`);
}

