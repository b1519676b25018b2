/** @file The compare command: a plan beside a measured step, in words, as data, and in files; and a run that left both. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCluster } from '../../src/plan/cluster/read.ts';
import { kindsPredicted } from '../../src/plan/expected.ts';
import { readPlan } from '../../src/plan/plan-json.ts';
import { readProfile } from '../../src/plan/profile/read.ts';
import { walkPlan } from '../../src/plan/search/simulate-plan.ts';
import { planTimeline } from '../../src/program/plan-timeline.ts';
import { recordDocument, type StepRecord } from '../../src/program/step-record.ts';
import { deviceId } from '../../src/program/types.ts';
import { sampleCluster, sampleProfile } from '../helpers/profiles.ts';
import { runCli } from './context.ts';

let cwd: string;
beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'compare-'));
	const save = (name: string, value: unknown) => writeFile(join(cwd, name), JSON.stringify(value));
	await save('p.json', sampleProfile());
	await save('c.json', sampleCluster);
	const shape = ['--stages', '2', '--pipelines', '2', '--micro-batches', '4', '--schedule', '1f1b', '--effort', '0'];
	await runCli(['plan', '--profile', 'p.json', '--cluster', 'c.json', '--batch', '32', ...shape, '--out', 'run'], { cwd });
	const read = async (name: string) => JSON.parse(await readFile(join(cwd, 'run', name), 'utf8')) as unknown;
	const plan = readPlan(await read('plan.json'));
	const answer = walkPlan(plan, readProfile(await read('profile.json')), readCluster(await read('cluster.json')));
	const { devices } = planTimeline(answer);
	const record: StepRecord = {
		version: 1,
		step: 7,
		stepMs: 100,
		// Everything takes twice as long.
		devices: devices.map(({ device, spans }) => ({ device, spans: spans.map((s) => ({ ...s, start: 2 * s.start, end: 2 * s.end })) })),
		memory: [{ device: deviceId(0), fixedBytes: 4e6, predictedBytes: 10e6, measuredBytes: 9e6 }],
	};
	await save('run/timeline.json', recordDocument(record));
	expect(answer.fill.items.length).toBeGreaterThan(0);
});
afterAll(() => rm(cwd, { recursive: true }));

const compare = (...argv: string[]) => runCli(['compare', ...argv], { cwd });
interface Pair {
	readonly predicted: number;
	readonly measured: number;
	readonly difference: number;
	readonly relative: number;
}

describe('compare', () => {
	it('walks the plan as it stands, with its own filling', async () => {
		const { out } = await compare('run', '--json');
		const plan = readPlan(JSON.parse(await readFile(join(cwd, 'run/plan.json'), 'utf8')));
		const found = JSON.parse(out) as { step: number; iterationMs: Pair; kinds: (Pair & { kind: string })[]; memory: Pair[] };
		expect(found.iterationMs.predicted).toBeCloseTo(plan.iterationMs, 6);
		expect(found.iterationMs.relative).toBeCloseTo(1, 4);
		expect(found.kinds.map(({ kind }) => kind)).toEqual(
			expect.arrayContaining(['forward', 'backward', 'frozen vae', 'frozen text', 'idle']),
		);
		const vae = plan.fill.filter(({ component }) => component === 'vae').reduce((sum, { startMs, endMs }) => sum + endMs - startMs, 0);
		// The timeline is that of one of two equal pipelines.
		expect(found.kinds.find(({ kind }) => kind === 'frozen vae')!.predicted).toBeCloseTo(vae / 2, 6);
		expect(found.memory[0]).toMatchObject({ predicted: 10e6, measured: 9e6, difference: -1e6 });
	});

	it('shows both timelines and where the time went', async () => {
		const { out, code } = await compare('run');
		expect(code).toBe(0);
		expect(out).toMatch(/iteration .* predicted, .* measured +\+100\.0 %; step 7 took 100 ms/);
		const rows = out.split('\n').filter((line) => /^device \d+ \|/.test(line));
		expect(rows).toHaveLength(4);
		expect(out).toMatch(/forward .* \+100\.0 %/);
		expect(out).toMatch(/0 +10\.0 MB +9\.0 MB +-1\.0 MB +-10\.0 % +4\.0 MB/);
	});

	it('writes both into pictures, a page and a trace', async () => {
		await mkdir(join(cwd, 'out'));
		const { err } = await compare('run', '--out', 'out');
		for (const name of ['compare.html', 'compare.json', 'compare.svg', 'compare.trace.json']) expect(err).toContain(join('out', name));
		const svg = await readFile(join(cwd, 'out/compare.svg'), 'utf8');
		expect(svg.indexOf('>predicted<')).toBeGreaterThan(0);
		expect(svg.indexOf('>measured<')).toBeGreaterThan(svg.indexOf('>predicted<'));
		for (const bytes of ['10.0 MB', '9.0 MB']) expect(svg).toContain(bytes);
		const html = await readFile(join(cwd, 'out/compare.html'), 'utf8');
		for (const words of ['Peak memory', 'All devices', 'Device 1', '>measured<']) expect(html).toContain(words);
		const trace = JSON.parse(await readFile(join(cwd, 'out/compare.trace.json'), 'utf8')) as {
			traceEvents: { name: string; args?: { name?: string } }[];
		};
		const processes = trace.traceEvents.filter(({ name }) => name === 'process_name').map(({ args }) => args!.name);
		expect(processes).toEqual(['predicted', 'measured']);
	});

	it('takes files of one’s own', async () => {
		const { out } = await compare('--plan', 'run/plan.json', '--timeline', 'run/timeline.json', '--json');
		expect(out).toBe((await compare('run', '--json')).out);
	});

	it('shows both kinds of step of a run with self-conditioning, and what is to be expected of both', async () => {
		const profile = sampleProfile();
		const [backbone] = profile.backbones;
		await writeFile(join(cwd, 'self.json'), JSON.stringify({ ...profile, backbones: [{ ...backbone!, selfConditioning: 0.25 }] }));
		const shape = ['--stages', '2', '--pipelines', '2', '--micro-batches', '4', '--schedule', '1f1b', '--effort', '0'];
		const planned = await runCli(['plan', '--profile', 'self.json', '--cluster', 'c.json', '--batch', '32', ...shape, '--out', 'both'], {
			cwd,
		});
		for (const words of [/^ {2}without self-conditioning +\S+ ms +75\.0 % of/m, /^ {2}with self-conditioning +\S+ ms +25\.0 % of/m])
			expect(planned.out).toMatch(words);
		expect(planned.out.split('\n').filter((line) => /^device \d+,.*\|/.test(line))).toHaveLength(4);
		const read = async (name: string) => JSON.parse(await readFile(join(cwd, 'both', name), 'utf8')) as unknown;
		const walked = walkPlan(
			readPlan(await read('plan.json')),
			readProfile(await read('profile.json')),
			readCluster(await read('cluster.json')),
		);
		const save = (name: string, kind: (typeof kinds)[0], factor: number) => {
			const { devices } = planTimeline(kind);
			const slower = devices.map(({ device, spans }) => ({
				device,
				spans: spans.map((s) => ({ ...s, start: factor * s.start, end: factor * s.end })),
			}));
			const record: StepRecord = { version: 1, step: 7, stepMs: 100, ...(kind.swept ? { swept: true } : {}), devices: slower, memory: [] };
			return writeFile(join(cwd, 'both', name), JSON.stringify(recordDocument(record)));
		};
		const kinds = kindsPredicted(walked);
		await save('timeline.json', kinds[0]!, 2);
		await save('timeline-swept.json', kinds[1]!, 3);
		const { out } = await compare('both', '--out', 'both/page.html');
		for (const words of [/expected iteration +\S+ ms predicted/, /iteration without self-conditioning .*\+100\.0 %/])
			expect(out).toMatch(words);
		expect(out).toMatch(/iteration with self-conditioning .*\+200\.0 %/);
		expect(out.split('\n').filter((line) => /^device \d+ \|/.test(line))).toHaveLength(8);
		const html = await readFile(join(cwd, 'both/page.html'), 'utf8');
		for (const words of ['>measured with self-conditioning<', 'All devices without self-conditioning']) expect(html).toContain(words);
		interface Document {
			readonly iterationMs: Pair;
			readonly selfConditioning: { readonly expectedMs: Pair; readonly swept: boolean; readonly iterationMs: Pair };
		}
		const { iterationMs, selfConditioning: swept } = JSON.parse((await compare('both', '--json')).out) as Document;
		expect(iterationMs.relative).toBeCloseTo(1, 4);
		expect(swept).toMatchObject({ swept: true, probability: 0.25 });
		expect(swept.iterationMs.relative).toBeCloseTo(2, 4);
		expect(swept.expectedMs.measured).toBeCloseTo(0.75 * iterationMs.measured + 0.25 * swept.iterationMs.measured, 6);
		expect(swept.expectedMs.predicted).toBeCloseTo(((await read('plan.json')) as { iterationMs: number }).iterationMs, 6);
		// Alone it is told by itself; a plan without self-conditioning has nothing to compare it with.
		const alone = ['--plan', 'both/plan.json', '--timeline', 'both/timeline-swept.json', '--json'];
		expect(JSON.parse((await compare(...alone)).out)).toMatchObject({
			swept: true,
			iterationMs: { predicted: swept.iterationMs.predicted },
		});
		const other = await compare('--plan', 'run/plan.json', '--timeline', 'both/timeline-swept.json');
		expect([other.code, other.err]).toEqual([2, expect.stringContaining('is a step with self-conditioning')]);
	});

	it('names the command that traces a step: of a run under way, of a finished one, of a size of images', async () => {
		const runs = join(cwd, 'runs');
		const step = (n: number) => join(runs, 'r', 'checkpoints', `step-0000000${n}`);
		await mkdir(step(3), { recursive: true });
		await mkdir(join(runs, 'r', 'sizes', '8x16'), { recursive: true });
		await writeFile(join(runs, 'r', 'config.json'), JSON.stringify({ train: { max_steps: 4 } }));
		const plans = [join(runs, 'r'), join(runs, 'r', 'sizes', '8x16')];
		expect((await compare('runs/r')).err).toContain('nothing was predicted');
		for (const folder of plans)
			for (const name of ['plan.json', 'profile.json']) await writeFile(join(folder, name), await readFile(join(cwd, 'run', name)));
		const train = 'diffusionpipe train ... --output-dir runs/r --resume --set log.trace_every_steps';
		const hints = async () =>
			[(await compare('runs/r')).err, (await compare('runs/r/sizes/8x16')).err].map((err) => err.trim().split('try: ')[1]);
		expect(await hints()).toEqual([`${train}=10`, `${train}=1`]);
		await mkdir(step(4));
		expect(await hints()).toEqual([`${train}=10 --set train.max_steps=14`, `${train}=1 --set train.max_steps=104`]);
		const named = await compare('runs/r', '--timeline', 'none.json');
		expect([named.code, named.err]).toEqual([2, expect.stringContaining('none.json: is not there')]);
	});

	it('says what is missing and how to get it', async () => {
		await mkdir(join(cwd, 'bare'));
		const bare = await compare('bare');
		expect([bare.code, bare.err]).toEqual([2, expect.stringContaining('trace_every_steps')]);
		await writeFile(join(cwd, 'bare/timeline.json'), await readFile(join(cwd, 'run/timeline.json')));
		expect((await compare('bare')).err).toContain('nothing was predicted');
		expect((await compare('nowhere')).err).toContain('is no folder');
		const alone = await compare('--plan', 'run/plan.json');
		expect([alone.code, alone.err]).toEqual([2, expect.stringContaining('--timeline')]);
		expect((await compare('run', '--out', 'a.png')).code).toBe(2);
	});
});
