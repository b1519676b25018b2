/** @file The simulate command: a plan walked again as it was made, with other costs, and divisions given by hand. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPlan } from '../../src/plan/plan-json.ts';
import type { Plan } from '../../src/plan/types.ts';
import { sampleCluster, sampleProfile } from '../helpers/profiles.ts';
import { runCli } from './context.ts';

let cwd: string;
const save = (name: string, value: unknown) => writeFile(join(cwd, name), JSON.stringify(value));
const files = ['--profile', 'p.json', '--cluster', 'c.json'];
beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'simulate-'));
	await save('p.json', sampleProfile());
	await save('c.json', sampleCluster);
	await save('slow.json', { ...sampleCluster, intra: { latencyMs: 0.01, bytesPerMs: 1e6 } });
	await runCli(
		[
			'plan',
			...files,
			'--batch',
			'32',
			'--stages',
			'2',
			'--pipelines',
			'1',
			'--micro-batches',
			'4',
			'--schedule',
			'1f1b',
			'--effort',
			'0',
			'--out',
			'a',
		],
		{ cwd },
	);
});
afterAll(() => rm(cwd, { recursive: true }));

const simulate = (...argv: string[]) => runCli(['simulate', ...argv, '--effort', '0'], { cwd });
const answer = async (...argv: string[]) => {
	const { out } = await simulate(...argv, '--json');
	const { plan, fits, memory } = JSON.parse(out);
	return { plan: readPlan(plan), fits, memory } as {
		plan: Plan;
		fits: boolean;
		memory: { rank: number; steps: { ms: number; bytes: number }[] }[];
	};
};
const written = async () => readPlan(JSON.parse(await readFile(join(cwd, 'a/plan.json'), 'utf8')));

describe('simulate a plan', () => {
	it('comes to what was planned', async () => {
		expect((await answer('a')).plan).toEqual(await written());
		expect((await answer('a/plan.json')).plan).toEqual(await written());
	});

	it('says what other links, and other layers, would change', async () => {
		const planned = await written();
		const slow = await answer('a', '--cluster', 'slow.json');
		expect(slow.plan.iterationMs).toBeGreaterThan(planned.iterationMs);
		expect(slow.plan.stages.map((stage) => stage.layers)).toEqual(planned.stages.map((stage) => stage.layers));
		// What else was priced was priced for the other cluster.
		expect([slow.plan.baselines, planned.baselines.length > 0]).toEqual([[], true]);
		const { out } = await simulate('a', '--cluster', 'slow.json');
		expect(out).toMatch(/planned with [\d.]+ ms, now [\d.]+ ms \(\+[\d.]+ %\)/);
		const profile = sampleProfile();
		const [unet] = profile.backbones;
		const half = unet!.layers.map((layer) => ({ ...layer, forwardMs: layer.forwardMs.map((ms) => ms / 2) }));
		await save('fast.json', { ...profile, backbones: [{ ...unet!, layers: half }] });
		expect((await answer('a', '--profile', 'fast.json')).plan.iterationMs).toBeLessThan(planned.iterationMs);
	});

	it('takes another batch', async () => {
		const planned = await written();
		const { plan } = await answer('a', '--batch', '64');
		expect(plan.batch).toBe(64);
		expect(plan.iterationMs).toBeGreaterThan(1.5 * planned.iterationMs);
	});

	it('shows the timeline, and memory that ends with the weights and tops where the plan says', async () => {
		const { out } = await simulate('a');
		expect(out).toMatch(/^device 0, stage 0 \|.*% busy$/m);
		expect(out).toMatch(/^rank 0 \(0(-\d)?\) +\|[▁▂▃▄▅▆▇█]+\| [\d.]+ GB of 16\.0 GB$/m);
		const { memory, plan, fits } = await answer('a');
		expect(fits).toBe(true);
		for (const { rank, steps } of memory) {
			expect(steps[0]!.ms).toBe(0);
			const [from, to] = plan.stages[rank]!.layers;
			// 400 MB a layer, once all activations are gone.
			expect(steps.at(-1)!.bytes).toBeCloseTo(4e8 * (to - from), 0);
			const device = plan.stages.slice(0, rank).reduce((sum, stage) => sum + stage.replicas, 0);
			expect(Math.max(...steps.map(({ bytes }) => bytes))).toBeCloseTo(plan.peakBytes[device]!, 0);
		}
	});

	it('warns where it does not fit', async () => {
		const room = Math.max(...(await written()).peakBytes) - 1e6;
		await save('tight.json', { ...sampleCluster, memoryBytes: room });
		const { code, out } = await simulate('a', '--cluster', 'tight.json');
		expect(code).toBe(0);
		expect(out).toContain('does not fit: a device needs');
		expect((await answer('a', '--cluster', 'tight.json')).fits).toBe(false);
	});

	it('writes pictures likewise', async () => {
		expect((await simulate('a', '--out', 'b')).code).toBe(0);
		expect(await readFile(join(cwd, 'b/plan.svg'), 'utf8')).toContain('device 3');
		expect((await answer('b')).plan).toEqual(await written());
	});
});

describe('simulate a division', () => {
	const given = [...files, '--batch', '32', '--micro-batches', '4'];

	it('with cuts, stages and schedule as given', async () => {
		const { plan } = await answer(...given, '--split', '2,4,7', '--schedule', 'gpipe');
		expect(plan.stages.map((stage) => stage.layers)).toEqual([
			[0, 2],
			[2, 4],
			[4, 7],
			[7, 8],
		]);
		expect(plan).toMatchObject({ schedule: 'gpipe', pipelines: 1, ranks: 4, microBatches: 4 });
		expect(plan.iterationMs).toBeGreaterThan(0);
	});

	it('is no better than the plan of the same shape', async () => {
		const planned = await written();
		const shape = ['--warmup', planned.warmup, '--schedule', planned.schedule, '--layout', planned.layout];
		for (const cut of ['1', '3', '6']) {
			const { plan } = await answer(...given, '--split', cut, ...shape, ...(planned.recompute ? ['--recompute'] : []));
			expect(plan.pipelineMs).toBeGreaterThan(planned.pipelineMs * 0.999);
		}
	});

	it('folded, in several pipelines, without filling', async () => {
		const { plan } = await answer(...given, '--split', '2,4,6', '--placement', 'folded', '--pipelines', '2', '--no-fill');
		expect(plan.stages.map((stage) => stage.rank)).toEqual([0, 1, 1, 0]);
		expect(plan).toMatchObject({ pipelines: 2, ranks: 2, fill: [] });
		expect(plan.frozenMs).toBeGreaterThan(0);
		const { out } = await simulate(...given, '--split', '2,4,6', '--placement', 'folded', '--pipelines', '2', '--no-fill');
		expect(out).toMatch(/^device 0, stages 0 3 \|#/m);
	});

	it('one stage on all devices', async () => {
		expect((await answer(...given, '--stages', '1')).plan.stages.map((stage) => stage.devices)).toEqual([[0, 1, 2, 3]]);
	});

	it('of a published job', async () => {
		const { plan } = await answer(
			'dit-xl',
			'--accelerator',
			'H100',
			'--devices',
			'2',
			'--batch',
			'16',
			'--micro-batches',
			'2',
			'--split',
			'14',
		);
		expect(plan.profile).toBe('dit-xl on H100');
	});

	it.each([
		['nothing to simulate', [], 'nothing to simulate'],
		['a plan that is not there', ['none'], 'none: cannot read'],
		['a shape beside a plan', ['a', '--stages', '4'], '--stages: is fixed by the plan'],
		['a batch that does not part', ['a', '--batch', '33'], '--batch: is not divisible'],
		['a plan without its job', ['alone.json'], 'alone.json: needs --profile p.json'],
		['a plan of another profile', ['a', '--profile', 'short.json'], 'the stages are not those of the profile'],
		['another number of devices', ['a', '--devices', '8'], 'another cluster'],
		['no micro-batches', [...files, '--batch', '32', '--split', '3'], '--micro-batches: is missing'],
		['a split of words', [...given, '--split', 'half'], 'is no list of layers'],
		['a split that does not ascend', [...given, '--split', '4,3'], 'split: is no cut of unet'],
		['a cut at the end', [...given, '--split', '8'], 'ascending numbers from 1 to 7'],
		['another number of stages', [...given, '--split', '4', '--stages', '3'], 'stages: is not what the split gives'],
		['stages that do not part the devices', [...given, '--split', '2,4'], 'devices: cannot be divided so'],
		['an odd fold', [...given, '--split', '2,4', '--placement', 'folded'], 'gives an odd number of stages'],
		['a split of two backbones for one', [...given, '--split', '2;3'], 'split: has another number of backbones'],
		['a batch that cannot be divided', [...files, '--batch', '33', '--micro-batches', '4', '--split', '4'], 'batch: is not divisible'],
	])('refuses %s', async (_, argv, words) => {
		await save('alone.json', { ...JSON.parse(await readFile(join(cwd, 'a/plan.json'), 'utf8')) });
		const profile = sampleProfile();
		await save('short.json', { ...profile, backbones: [{ ...profile.backbones[0]!, layers: profile.backbones[0]!.layers.slice(0, 6) }] });
		const { code, out, err } = await simulate(...argv);
		expect([code, out]).toEqual([2, '']);
		expect(err).toContain(words);
		expect(err).not.toMatch(/TypeError|unexpected failure/);
	});

	it('refuses a plan that is damaged by name', async () => {
		await save('damaged.json', { ...JSON.parse(await readFile(join(cwd, 'a/plan.json'), 'utf8')), iterationMs: -1 });
		expect((await simulate('damaged.json', ...files)).err).toContain('damaged.json: iterationMs');
	});
});
