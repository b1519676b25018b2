import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sizeOf, tensor } from '../../src/core/tensor.ts';
import { trainingChain } from '../../src/diffusion/objective.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { readPlan } from '../../src/plan/plan-json.ts';
import { bankStore } from '../../src/train/bank-store.ts';
import { readTrainConfig } from '../../src/train/config.ts';
import { batchMaker } from '../../src/train/data/batches.ts';
import { bucketSteps, nearestSize, stepsOfBuckets } from '../../src/train/data/buckets.ts';
import { openDataSet } from '../../src/train/data/index.ts';
import { hyperOf, openSession } from '../../src/train/session.ts';
import { trainModel } from '../../src/train/trainer.ts';
import { uniformStream } from '../helpers/random.ts';
import { readLosses, tinyConfig } from '../helpers/tiny-run.ts';

let root: string;
let data: string;
/** Pictures of three shapes: 7 square, 5 wide, 3 tall; of the wide ones one is turned by its EXIF data. */
beforeAll(async () => {
	root = await mkdtemp(join(tmpdir(), 'buckets-'));
	data = join(root, 'images');
	await mkdir(data);
	const shapes = [...new Array(7).fill([20, 20]), ...new Array(5).fill([30, 20]), ...new Array(3).fill([18, 30])] as [number, number][];
	for (const [i, [width, height]] of shapes.entries()) {
		const turned = i === 8;
		const [w, h] = turned ? [height, width] : [width, height];
		const raw = Uint8Array.from({ length: w * h }, (_, k) => (k * (i + 3)) % 250);
		const picture = sharp(raw, { raw: { width: w, height: h, channels: 1 } });
		await (turned ? picture.withMetadata({ orientation: 6 }) : picture).jpeg().toFile(join(data, `${String(i).padStart(2, '0')}.jpg`));
	}
});
afterAll(() => rm(root, { recursive: true, force: true }));

const folder = (over: Record<string, unknown> = {}) =>
	({
		type: 'folder',
		path: data,
		height: 8,
		width: 8,
		channels: 1,
		buckets: [
			[12, 8],
			[8, 12],
			[40, 4],
		],
		...over,
	}) as never;

describe('sizes', () => {
	it('takes the nearest aspect ratio, then the largest size that need not be enlarged', () => {
		const sizes = [
			[64, 64],
			[32, 32],
			[96, 64],
			[64, 96],
			[128, 128],
		].map(([width, height]) => ({ width: width!, height: height! }));
		const chosen = (width: number, height: number) => nearestSize({ width, height }, sizes);
		expect([chosen(100, 90), chosen(500, 500), chosen(20, 20), chosen(300, 200), chosen(10, 17)]).toEqual([0, 4, 1, 2, 3]);
	});

	it('parts a folder by its pictures, turned as they are shown, and leaves out sizes that no picture has', async () => {
		const set = await openDataSet(folder());
		expect(set.buckets).toEqual([
			{ height: 8, width: 8, size: 7 },
			{ height: 8, width: 12, size: 5 },
			{ height: 12, width: 8, size: 3 },
		]);
		for (const [index, length] of [
			[0, 64],
			[8, 96],
			[14, 96],
		] as const)
			expect((await set.load(index)).image.length).toBe(length);
		expect((await openDataSet(folder({ buckets: undefined }))).buckets).toBeUndefined();
	});

	it('puts steps of one size side by side, in runs of a given length at most, and each still gives its examples once', () => {
		const buckets = [
			{ height: 8, width: 8, size: 19 },
			{ height: 8, width: 12, size: 8 },
		];
		const order = (runLength: number | undefined, row: number) => {
			const at = bucketSteps({ buckets, seed: 3, batchSize: 2, runLength });
			return Array.from({ length: 14 }, (_, step) => at(14 * row + step));
		};
		for (const row of [0, 1, 5]) {
			expect(order(1, row)).toEqual(order(undefined, row));
			const steps = order(4, row);
			const runs = steps.map(({ bucket }) => bucket).join('');
			// Ten steps of the one size in three runs, four of the other in one.
			expect(runs.match(/1+/g)).toEqual(['1111']);
			expect(runs.match(/0+/g)!.reduce((n, run) => n + run.length, 0)).toBe(10);
			for (const bucket of [0, 1]) {
				const starts = steps.flatMap((step) => (step.bucket === bucket ? [step.start] : []));
				const count = bucket === 0 ? 10 : 4;
				expect(starts).toEqual(Array.from({ length: count }, (_, i) => 2 * (row * count + i)));
			}
		}
		expect(
			new Set(
				[0, 1, 2, 3, 4, 5].map((row) =>
					order(4, row)
						.map(({ bucket }) => bucket)
						.join(''),
				),
			).size,
		).toBeGreaterThan(1);
		const given = { buckets, seed: 3, batchSize: 2, runLength: 4 };
		for (const steps of [0, 5, 14, 28, 33]) {
			const first = Array.from({ length: steps }, (_, step) => bucketSteps(given)(step).bucket);
			expect(stepsOfBuckets(given, steps)).toEqual([0, 1].map((bucket) => first.filter((each) => each === bucket).length));
		}
	});

	it('gives every bucket’s examples once in a row of steps, in batches of one size, the same whenever asked', async () => {
		const set = await openDataSet(folder());
		const make = () => batchMaker(set, { seed: 3, batchSize: 2 }, { cacheBytes: 1e6, decoders: 2, onBroken: () => {} });
		const batches = await Promise.all(Array.from({ length: 9 }, (_, step) => make()(step)));
		const bySize = new Map<string, string[]>();
		for (const { height, width, images, names } of batches) {
			expect(images.length).toBe(2 * height * width);
			const key = `${height}x${width}`;
			bySize.set(key, [...(bySize.get(key) ?? []), ...names]);
		}
		const counts = [...bySize].map(([key, names]) => [key, names.length, new Set(names).size]).sort();
		expect(counts).toEqual([
			['12x8', 4, 3],
			['8x12', 6, 5],
			['8x8', 8, 7],
		]);
		const one = make();
		for (const step of [5, 2, 11]) expect((await one(step)).names).toEqual((await make()(step)).names);
		const steps = bucketSteps({ buckets: set.buckets!, seed: 3, batchSize: 2 });
		expect(
			Array.from({ length: 18 }, (_, s) => steps(s))
				.filter((s) => s.bucket === 1)
				.map((s) => s.start)
				.sort((a, b) => a - b),
		).toEqual([0, 2, 4, 6, 8, 10]);
	});
});

const config = (name: string, over: Record<string, Record<string, unknown>> = {}) => {
	const raw = tinyConfig(data, join(root, name), {
		data: folder() as Record<string, unknown>,
		train: { max_steps: 12, batch_size: 2, gradient_accumulation_steps: 1 },
		log: { tensorboard: false },
		...over,
	});
	return readTrainConfig(raw);
};

it('steps of two sizes over one store are those of two sessions between which everything is carried', async () => {
	const { train, optimizer, parallel } = config('sessions');
	const own = { train, optimizer, parallel };
	const { type, ...model } = config('sessions').model;
	const chainOf = (width: number) => {
		const denoiser = createDenoiser(type, model, 'model', { height: 8, width });
		return trainingChain(denoiser.chain, { sample: denoiser.sample, output: denoiser.output, globalBatch: 2 });
	};
	const random = uniformStream(1);
	const feedsOf = (width: number) =>
		Object.fromEntries(
			Object.entries(chainOf(width).inputs).map(([name, { dtype, shape }]) => {
				const values = Array.from({ length: 2 * sizeOf(shape) }, () => (dtype === 'int64' ? 1 : random()));
				return [name, tensor(dtype, [2, ...shape], values)];
			}),
		);
	const feeds = [8, 12, 8, 12].map((width) => ({ width, feeds: feedsOf(width) }));
	const store = bankStore();
	const open = (shared: boolean) =>
		Promise.all([8, 12].map((width) => openSession(chainOf(width), own, { average: true, seed: 4, ...(shared ? { store } : {}) })));
	const [together, apart] = [await open(true), await open(false)];
	const roles = ['parameter', { moment: 0 }, { moment: 1 }, { moment: 2 }] as const;
	try {
		for (const [step, { width, feeds: given }] of feeds.entries()) {
			const which = width === 8 ? 0 : 1;
			const { hyper } = hyperOf(own, step);
			const [shared, alone] = [await together[which]!.step(given, hyper), await apart[which]!.step(given, hyper)];
			expect([shared.loss, shared.gradNorm]).toEqual([alone.loss, alone.gradNorm]);
			apart[which]!.parameters.forEach((p, i) => {
				for (const role of roles) apart[1 - which]!.parameters[i]!.views(role)[0]!.set(p.views(role)[0]!);
			});
		}
		together[1]!.parameters.forEach((p, i) => {
			expect(p.views('parameter')[0]).toEqual(apart[0]!.parameters[i]!.views('parameter')[0]);
		});
	} finally {
		for (const session of [...together, ...apart]) await session.close();
	}
});

describe('training on buckets', () => {
	it('goes on after a stop to the same losses, on one device as on two, and measures what is held out', async () => {
		const evaluated = { eval: { every_steps: 6, holdout: 2, quantiles: [0.5], batch_size: 2 } };
		const notes: string[] = [];
		const result = await trainModel(config('straight', evaluated), { onEvent: (e) => e.kind === 'note' && notes.push(e.text) });
		expect(result.finished).toBe(true);
		expect(notes.filter((text) => text.startsWith('compiling for images of')).sort()).toEqual([
			'compiling for images of 12x8',
			'compiling for images of 8x12',
		]);
		const controller = new AbortController();
		await trainModel(config('stopped', evaluated), {
			signal: controller.signal,
			onEvent: (e) => e.kind === 'step' && e.step === 5 && controller.abort(),
		});
		await trainModel(config('stopped', evaluated), { resume: true });
		const straight = await readLosses(join(root, 'straight'));
		expect([...(await readLosses(join(root, 'stopped')))]).toEqual([...straight]);
		await trainModel(config('one', { ...evaluated, parallel: { pipeline_stages: 1, partition_split: [] } }));
		for (const [step, loss] of await readLosses(join(root, 'one')))
			if (loss !== undefined) expect(Math.abs(loss / straight.get(step)! - 1)).toBeLessThan(1e-4);
	});

	it('plans all sizes again from the steps of each: weights move with the cuts, losses stay', async () => {
		const over = (parallel: Record<string, unknown> = {}) => ({
			train: { max_steps: 12, batch_size: 2, gradient_accumulation_steps: 2 },
			eval: { every_steps: 6, holdout: 2, quantiles: [0.5], batch_size: 2 },
			parallel: { pipeline_stages: 2, partition_method: 'time', ...parallel },
		});
		await trainModel(config('stays', over({ partition_method: 'manual', partition_split: [3] })));
		const stop = new AbortController();
		await trainModel(config('moves', over()), { signal: stop.signal, onEvent: (e) => void (e.kind === 'step' && stop.abort()) });
		// It goes on with a cut that leaves all but one layer to the second device.
		const path = join(root, 'moves', 'checkpoints', 'step-00000001', 'training', 'state.json');
		await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), cuts: [1] }));
		const notes: string[] = [];
		await trainModel(config('moves', over({ replan_after: 9, replan_gain: -1000 })), {
			resume: true,
			onEvent: (e) => void (e.kind === 'note' && notes.push(e.text)),
		});
		expect(notes.flatMap((text) => (text.startsWith('from measured times') ? [text.split(': ').at(-1)] : []))).toEqual(['moved']);
		// Sizes are compiled again after the move, and the plan of the run has other cuts.
		const plan = readPlan(JSON.parse(await readFile(join(root, 'moves', 'plan.json'), 'utf8')));
		expect(plan.stages.map(({ layers }) => layers[0])).not.toEqual([0, 1]);
		const lines = async (name: string) =>
			(await readFile(join(root, name, 'metrics.jsonl'), 'utf8'))
				.trim()
				.split('\n')
				.map((line) => JSON.parse(line) as Record<string, number>);
		const [expected, found] = [await lines('stays'), await lines('moves')];
		expect(found.length).toBe(expected.length);
		for (const [i, line] of expected.entries())
			for (const key of ['loss', 'eval_loss'])
				if (line[key] !== undefined) expect(Math.abs(found[i]![key]! / line[key] - 1)).toBeLessThan(1e-4);
	}, 180_000);

	it('encodes every size', async () => {
		const latent = {
			model: { sample_size: 4, in_channels: 4, out_channels: 4 },
			data: folder({
				channels: 3,
				height: 16,
				width: 16,
				buckets: [
					[24, 16],
					[16, 24],
				],
			}) as Record<string, unknown>,
			train: { max_steps: 9, batch_size: 2, gradient_accumulation_steps: 1 },
		};
		const base = tinyConfig(data, join(root, 'latents'), { ...latent, log: { tensorboard: false } });
		const frozen = { cache: 'disk', cache_dir: join(root, 'cache') };
		expect((await trainModel(readTrainConfig({ ...base, vae: { path: 'assets/emoji-vae' }, frozen }))).finished).toBe(true);
	});
});
