/** @file The plan command: real plans of small jobs, in every form it gives, and every way to ask wrongly. */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'smol-toml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accelerators } from '../../src/plan/analytic/accelerators.ts';
import { namedJobs } from '../../src/plan/analytic/named-jobs.ts';
import { readPlan } from '../../src/plan/plan-json.ts';
import type { Profile } from '../../src/plan/profile/types.ts';
import { parseSchedule } from '../../src/plan/schedules/text.ts';
import { sampleBackbone, sampleCluster, sampleProfile } from '../helpers/profiles.ts';
import { runCli } from './context.ts';

let cwd: string;
const save = (name: string, value: unknown) => writeFile(join(cwd, name), typeof value === 'string' ? value : JSON.stringify(value));
beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'plan-'));
	await save('p.json', sampleProfile());
	await save('c.json', sampleCluster);
});
afterAll(() => rm(cwd, { recursive: true }));

const files = ['--profile', 'p.json', '--cluster', 'c.json'];
const job = [...files, '--batch', '32', '--effort', '0'];
/** The same with so little left open that it is planned at once. */
const quick = [...job, '--stages', '2', '--pipelines', '2', '--micro-batches', '4', '--schedule', '1f1b', '--warmup', 'usual'];
const plan = (...argv: string[]) => runCli(['plan', ...argv], { cwd });

describe('plan', () => {
	it('says what it chose, and shows alternatives, other ways and the timeline', async () => {
		const { code, out, err } = await plan(...job);
		expect(code).toBe(0);
		expect(err).toBe('planning sample: batch 32 on 4 devices\n');
		const lines = out.split('\n');
		expect(lines[0]).toMatch(/pipelines? of \d stages?/);
		for (const heading of ['Stages', 'Alternatives', 'Other ways of training the same job', 'data parallel', 'cached encoders'])
			expect(out).toContain(heading);
		expect(lines.filter((line) => line.startsWith('*'))).toHaveLength(2);
		expect(lines.filter((line) => /^device \d, stages? .*\|.*% busy$/.test(line)).length).toBeGreaterThan(0);
		expect(out).toContain('frozen vae');
	});

	it('gives the plan as JSON, which reads back', async () => {
		const { out } = await plan(...job, '--json');
		const document = JSON.parse(out);
		const read = readPlan(document);
		expect(read).toMatchObject({ version: 1, profile: 'sample', batch: 32, devices: 4 });
		expect(read.iterationMs).toBeGreaterThanOrEqual(read.lowerBoundMs);
		expect(read.bubbleRatio.filled).toBeLessThanOrEqual(read.bubbleRatio.unfilled);
		expect(read.stages[0]!.layers[0]).toBe(0);
		expect(read.stages.at(-1)!.layers[1]).toBe(8);
		expect(read.rows).toHaveLength(read.ranks);
		expect(document.baselines.map((b: { name: string }) => b.name)).toContain('data parallel');
	});

	it('a way that does not fit has no time in JSON', async () => {
		// Eight layers of 400 MB with their optimiser state: what keeps them all on a device does not fit.
		await save('small.json', { ...sampleCluster, memoryBytes: 2.5e9 });
		const { out } = await plan('--profile', 'p.json', '--cluster', 'small.json', ...job.slice(4), '--schedule', '1f1b', '--json');
		const { baselines } = JSON.parse(out);
		expect(baselines.find((b: { name: string }) => b.name === 'data parallel')).toMatchObject({ iterationMs: null, fits: false });
		expect(readPlan(JSON.parse(out)).baselines.find((b) => b.name === 'data parallel')!.iterationMs).toBe(Number.POSITIVE_INFINITY);
	});

	it('keeps to what is fixed', async () => {
		const fixed = [
			'--stages',
			'2',
			'--micro-batches',
			'4',
			'--schedule',
			'1f1b',
			'--warmup',
			'deep',
			'--pipelines',
			'2',
			'--recompute',
			'--no-fill',
		];
		const { out } = await plan(...job, ...fixed, '--json');
		const read = readPlan(JSON.parse(out));
		expect(read).toMatchObject({ microBatches: 4, schedule: '1f1b', warmup: 'deep', pipelines: 2, recompute: true, fill: [] });
		expect(read.stages).toHaveLength(2);
		expect(read.frozenMs).toBeGreaterThan(0);
	});

	it('folds where told to', async () => {
		const { out } = await plan(...job, '--placement', 'folded', '--stages', '4', '--pipelines', '2', '--json');
		expect(readPlan(JSON.parse(out)).stages.map((stage) => stage.rank)).toEqual([0, 1, 1, 0]);
	});

	it('prices published jobs on a named accelerator', async () => {
		const { code, out, err } = await plan(
			'dit-xl',
			'--accelerator',
			'a100-80',
			'--devices',
			'2',
			'--batch',
			'64',
			'--stages',
			'2',
			'--effort',
			'0',
			'--json',
		);
		expect(code).toBe(0);
		expect(err).toContain('planning dit-xl on A100-80: batch 64 on 2 devices');
		const read = readPlan(JSON.parse(out));
		expect(read.stages.map((stage) => stage.devices)).toEqual([[0], [1]]);
		expect(read.fill.some((item) => item.component === 'vae')).toBe(true);
	});

	it('takes so many devices with free links where nothing else is known of them', async () => {
		const free = readPlan(JSON.parse((await plan('--profile', 'p.json', '--devices', '4', ...quick.slice(4), '--json')).out));
		const real = readPlan(JSON.parse((await plan(...quick, '--json')).out));
		expect(free.devices).toBe(4);
		expect(free.iterationMs).toBeLessThan(real.iterationMs);
	});

	it('names every job and accelerator in its help', async () => {
		const { out } = await plan('--help');
		for (const name of [...Object.keys(namedJobs), ...accelerators.map((a) => a.name)]) expect(out).toContain(name);
	});

	it('is coloured where a person looks', async () => {
		const painted = await runCli(['plan', ...quick], { cwd, env: { FORCE_COLOR: '1' } });
		expect(painted.out).toContain('\u001b[48;5;');
		expect((await plan(...quick)).out).not.toContain('\u001b');
	});

	it('is as wide as the terminal', async () => {
		const out: string[] = [];
		const stdout = { write: (text: string) => out.push(text), columns: 70 };
		await runCli(['plan', ...quick], { cwd, stdout });
		const rows = out
			.join('')
			.split('\n')
			.filter((line) => line.includes('% busy'));
		expect(rows.map((line) => line.length)).toEqual(rows.map(() => 70));
	});
});

describe('plan of what is trained here', () => {
	const config = [
		'output_dir = "runs/a"',
		'[model]',
		'type = "DiTTransformer2DModel"',
		'num_attention_heads = 2',
		'attention_head_dim = 8',
		'num_layers = 2',
		'sample_size = 8',
		'in_channels = 1',
		'[scheduler]',
		'type = "DDPMScheduler"',
		'[data]',
		'type = "mnist"',
		'[train]',
		'max_steps = 40',
		'batch_size = 8',
		'[parallel]',
		'pipeline_stages = 2',
	].join('\n');
	const some = ['--stages', '2', '--micro-batches', '2', '--effort', '0', '--json'];

	it('takes batch and devices of a config, which may be changed, and measures its layers', async () => {
		await save('a.toml', config);
		const { code, out, err } = await plan('a.toml', '--set', 'train.batch_size=12', ...some);
		expect(err).toContain('measuring the layers of a.toml');
		expect(code).toBe(0);
		const read = readPlan(JSON.parse(out));
		expect(read).toMatchObject({ profile: 'a.toml measured', batch: 12, devices: 2 });
		expect(read.stages.every((stage) => stage.forwardMs > 0)).toBe(true);
	});

	it('computes them for an accelerator', async () => {
		await save('a.toml', config);
		const { out } = await plan('a.toml', '--accelerator', 'H100', '--devices', '4', '--batch', '16', ...some);
		expect(readPlan(JSON.parse(out))).toMatchObject({ profile: 'a.toml on H100', batch: 16, devices: 4 });
	});

	it('takes a pipeline folder: its denoiser trained, its encoders frozen', async () => {
		const fixtures = fileURLToPath(new URL('../fixtures/', import.meta.url));
		const parts = {
			unet: ['diffusers', 'UNet2DConditionModel', 'unet-sd'],
			vae: ['diffusers', 'AutoencoderKL', 'vae-kl'],
			text_encoder: ['transformers', 'CLIPTextModel', 'clip-text'],
		};
		const index = Object.fromEntries(Object.entries(parts).map(([name, [library, type]]) => [name, [library, type]]));
		for (const [name, [, , from]] of Object.entries(parts)) {
			await mkdir(join(cwd, 'pipeline', name), { recursive: true });
			await copyFile(join(fixtures, from!, 'config.json'), join(cwd, 'pipeline', name, 'config.json'));
		}
		await save('pipeline/model_index.json', {
			_class_name: 'StableDiffusionPipeline',
			scheduler: ['diffusers', 'DDIMScheduler'],
			...index,
		});
		const { out, err } = await plan('pipeline', '--accelerator', 'A100-40', '--devices', '2', '--batch', '8', ...some);
		expect(err).not.toContain('error');
		const read = readPlan(JSON.parse(out));
		expect(read.stages.map((stage) => stage.backbone)).toEqual(['unet', 'unet']);
		expect(new Set(read.fill.map((item) => item.component))).toEqual(new Set(['vae', 'text_encoder']));
		const alone = await plan('pipeline/unet', '--accelerator', 'A100-40', '--devices', '2', '--batch', '8', ...some);
		expect(readPlan(JSON.parse(alone.out)).fill).toEqual([]);
	});

	it('refuses a folder of something else by its file', async () => {
		const { code, err } = await plan('pipeline/vae', '--accelerator', 'A100-40', '--devices', '2', '--batch', '8');
		expect(code).toBe(2);
		expect(err).toContain('model class AutoencoderKL is not known');
	});
});

describe('plan --out', () => {
	it('fills a folder with plan, pictures, trace, and what is needed to walk it again', async () => {
		const { code, err } = await plan(...quick, '--out', 'plans/a');
		expect(code).toBe(0);
		const names = ['cluster.json', 'plan.html', 'plan.json', 'plan.svg', 'plan.trace.json', 'profile.json'];
		expect((await readdir(join(cwd, 'plans/a'))).sort()).toEqual(names);
		for (const name of names) expect(err).toContain(`wrote ${join('plans/a', name)}\n`);
		const read = async (name: string) => await readFile(join(cwd, 'plans/a', name), 'utf8');
		expect(readPlan(JSON.parse(await read('plan.json'))).profile).toBe('sample');
		const { traceEvents } = JSON.parse(await read('plan.trace.json'));
		expect(traceEvents.map((event: { cat?: string }) => event.cat)).toContain('frozen');
		expect(traceEvents.some((event: { ph: string; args: { bytes: number } }) => event.ph === 'C' && event.args.bytes > 1e8)).toBe(true);
		expect(await read('plan.svg')).toMatch(/^<svg /);
		expect(await read('plan.html')).toContain('vae down.0');
		expect(JSON.parse(await read('profile.json'))).toEqual(sampleProfile());
		expect(JSON.parse(await read('cluster.json'))).toEqual(sampleCluster);
	});

	it.each(['x.svg', 'x.html', 'x.trace.json', 'x.json'])('writes %s alone', async (name) => {
		await mkdir(join(cwd, name.slice(1)));
		expect((await plan(...quick, '--out', join(name.slice(1), name))).code).toBe(0);
		expect(await readdir(join(cwd, name.slice(1)))).toEqual([name]);
	});

	it.each([
		['x.png', 2, 'has an ending that is not known'],
		['p.json/x', 2, 'cannot'],
	])('refuses %s', async (name, code, words) => {
		const result = await plan(...quick, '--out', name);
		expect([result.code, result.out]).toEqual([code, '']);
		expect(result.err).toContain(words);
		expect(existsSync(join(cwd, 'x.png'))).toBe(false);
	});
});

describe('plan --for', () => {
	it('torch: rows that parse, one per rank, and nothing else', async () => {
		const { out } = await plan(...quick, '--for', 'torch');
		expect(parseSchedule(out)).toHaveLength(2);
	});

	it('diffusion-pipe: keys whose numbers multiply to the batch', async () => {
		const { out } = await plan(...quick, '--for', 'diffusion-pipe');
		const config = parse(out) as Record<string, number>;
		expect(config.micro_batch_size_per_gpu! * config.gradient_accumulation_steps! * (4 / config.pipeline_stages!)).toBe(32);
		expect(out).toMatch(/# stage 0, layers 0 to \d: block\.0 \.\.\. block\.\d/);
	});

	it('deepspeed, as JSON', async () => {
		const { out } = await plan(...quick, '--for', 'deepspeed', '--json');
		expect(JSON.parse(out)).toEqual({ for: 'deepspeed', text: expect.stringContaining('"train_batch_size": 32') });
	});

	it('refuses a plan the trainer cannot run, and a trainer that is not known', async () => {
		const folded = await plan(...job, '--placement', 'folded', '--stages', '4', '--for', 'deepspeed');
		expect([folded.code, folded.out]).toEqual([2, '']);
		expect(folded.err).toContain('DeepSpeed cannot run this plan');
		expect((await plan(...job, '--for', 'torsch')).err).toContain('did you mean torch?');
	});
});

describe('plan refuses', () => {
	const [layer] = sampleBackbone().layers;
	const withLayer = (change: object) => ({ backbones: [{ ...sampleBackbone(), layers: [{ ...layer!, ...change }] }] });
	const frozen = (...after: (readonly string[])[]) => ({
		frozen: after.map((names, i) => ({ ...sampleProfile().frozen[1]!, name: `f${i}`, after: names })),
	});

	it.each<[string, Partial<Profile> | object, string]>([
		['negative times', withLayer({ forwardMs: [1, 2, -3, 4] }), 'bad.json: backbones[0] (unet).layers[0] (block.0).forwardMs[2]'],
		['too few times', withLayer({ forwardMs: [1] }), 'bad.json: backbones[0] (unet).layers[0] (block.0).forwardMs'],
		['unknown keys', { layer: 3 }, 'there is no key layer'],
		['missing keys', { frozen: undefined }, 'frozen is missing'],
		['a cycle of frozen components', frozen(['f1'], ['f0']), 'f0 after f1 after f0'],
		['a component that is not there', frozen(['f7']), 'names no frozen component'],
		['a layer larger than memory', withLayer({ paramBytes: 1e11 }), 'layers[0] (block.0): a layer is larger than the memory of a device'],
		['another version', { version: 2 }, 'bad.json: version'],
	])('a profile with %s', async (_, change, words) => {
		await save('bad.json', { ...sampleProfile(), ...change });
		const { code, out, err } = await plan('--profile', 'bad.json', '--cluster', 'c.json', '--batch', '32');
		expect([code, out]).toEqual([2, '']);
		expect(err).toContain(words);
	});

	it.each([
		['a cluster of no hosts', { hosts: 0 }, 'bad-c.json: hosts'],
		['links of no speed', { intra: { latencyMs: 0, bytesPerMs: 0 } }, 'bad-c.json: intra.bytesPerMs'],
		['misspelt keys', { memorybytes: 3 }, 'did you mean memoryBytes?'],
	])('%s', async (_, change, words) => {
		await save('bad-c.json', { ...sampleCluster, ...change });
		const { code, err } = await plan('--profile', 'p.json', '--cluster', 'bad-c.json', '--batch', '32');
		expect(code).toBe(2);
		expect(err).toContain(words);
	});

	it.each([
		['nothing to plan', ['--batch', '32'], 'nothing to plan'],
		['a missing file', ['--profile', 'none.json', '--cluster', 'c.json', '--batch', '32'], 'none.json: cannot read'],
		['what is not JSON', ['--profile', 'text.json', '--cluster', 'c.json', '--batch', '32'], 'text.json: is not JSON'],
		['a job beside a profile', ['sd21', ...files, '--batch', '32'], 'sd21: is given beside --profile'],
		['an unknown job', ['sd12', '--accelerator', 'H100', '--batch', '32'], 'did you mean sd21?'],
		['an unknown preset', ['emojis'], 'did you mean emoji?'],
		['a job without an accelerator', ['sd21', '--devices', '8', '--batch', '32'], '--accelerator: is missing'],
		['an unknown accelerator', ['sd21', '--accelerator', 'A100-8', '--batch', '32'], 'accelerator A100-8 is not known'],
		['no devices', ['--profile', 'p.json', '--batch', '32'], 'no devices are given'],
		['no batch', files, '--batch: is missing'],
		['a batch that cannot be divided', [...files, '--batch', '33', '--micro-batches', '4'], 'the batch is not divisible'],
		['more stages than layers', [...files, '--batch', '32', '--stages', '9'], 'there are more stages than layers'],
		['pipelines that do not divide the devices', [...files, '--batch', '32', '--pipelines', '3'], 'a divisor of 4 devices'],
		['hosts beside a cluster', [...job, '--hosts', '2'], '--hosts: cannot be given beside --cluster'],
		['a network without accelerators', ['--profile', 'p.json', '--batch', '32', '--inter-gbps', '100'], '--inter-gbps: says nothing'],
		[
			'devices that cannot be divided',
			['sd21', '--accelerator', 'H100', '--devices', '9', '--hosts', '2', '--batch', '9'],
			'--devices: cannot be divided',
		],
		['no network', ['sd21', '--accelerator', 'H100', '--inter-gbps', '0', '--batch', '8'], '--inter-gbps: is no network'],
		['a schedule that is not there', [...job, '--schedule', '1f1c'], '--schedule 1f1b'],
		['a warm-up that is none', [...job, '--warmup', 'cold'], 'usual, deep'],
		['a placement that is none', [...job, '--placement', 'foldd'], '--placement folded'],
		['a layout that is none', [...job, '--layout', 'rows'], 'pipelines, copies'],
		['a batch that is no number', [...files, '--batch', 'many'], '--batch: has a wrong value'],
		['an option that is not there', [...job, '--microbatches', '3'], 'did you mean --micro-batches?'],
	])('%s', async (_, argv, words) => {
		await save('text.json', '{"version": 1,');
		const { code, out, err } = await plan(...argv);
		expect([code, out]).toEqual([2, '']);
		expect(err).toContain(words);
		expect(err).not.toMatch(/TypeError|unexpected failure/);
	});

	it('what fits nowhere, as JSON too', async () => {
		await save('tiny.json', { ...sampleCluster, memoryBytes: 5e8 });
		const { code, out } = await plan('--profile', 'p.json', '--cluster', 'tiny.json', '--batch', '32', '--json');
		expect(code).toBe(2);
		expect(JSON.parse(out).error).toMatchObject({ kind: 'input', message: expect.stringContaining('no plan fits') });
	});
});
