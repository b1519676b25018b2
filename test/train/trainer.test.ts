import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPipeline, sampleToFile, trainingSamples } from '../../src/generate/index.ts';
import { readTrainConfig } from '../../src/train/config.ts';
import type { TrainEvent } from '../../src/train/events.ts';
import { trainModel } from '../../src/train/trainer.ts';
import { readLosses, tinyConfig, tinyData } from '../helpers/tiny-run.ts';

let tiny: Awaited<ReturnType<typeof tinyData>>;
beforeAll(async () => {
	tiny = await tinyData();
});
afterAll(() => tiny.remove());

const folder = (name: string) => join(tiny.root, name);
const config = (name: string, over: Record<string, Record<string, unknown>> = {}) =>
	readTrainConfig(tinyConfig(tiny.data, folder(name), over));

/** Trains and stops after `steps` steps, as a person would with Ctrl-C. */
async function stopAfter(steps: number, name: string): Promise<void> {
	const controller = new AbortController();
	const result = await trainModel(config(name), {
		signal: controller.signal,
		onEvent: (e) => {
			if (e.kind === 'step' && e.step === steps) controller.abort();
		},
	});
	expect(result).toMatchObject({ step: steps, finished: false });
}

function relative(a: ReadonlyMap<number, number>, b: ReadonlyMap<number, number>): number {
	return Math.max(...[...a].map(([step, loss]) => Math.abs(loss - b.get(step)!) / loss));
}

describe('trainModel', () => {
	it('trains, writes metrics, events, checkpoints, samples and a pipeline that can be sampled from', async () => {
		const events: TrainEvent[] = [];
		const result = await trainModel(config('whole', { sample: { enabled: true, steps: 3, per_label: 2, every_steps: 5 } }), {
			onEvent: (e) => events.push(e),
			samples: trainingSamples,
		});
		expect(result).toMatchObject({ step: 12, finished: true, skippedFiles: 0 });
		expect(events.map((e) => e.kind)).toContain('plan');
		expect(result.samples.map((s) => existsSync(s))).toEqual([true, true, true]);
		expect((await readLosses(folder('whole'))).size).toBe(12);
		expect((await readdir(folder('whole'))).some((n) => n.startsWith('events.out.tfevents.'))).toBe(true);
		expect(await readdir(join(folder('whole'), 'checkpoints'))).toEqual(['step-00000010', 'step-00000012']);
		const pipeline = await openPipeline(folder('whole'));
		expect(pipeline.classes).toEqual(['bright', 'dark']);
		await pipeline.weights.close();
		const drawn = await sampleToFile({
			folder: folder('whole'),
			labels: ['dark', 0],
			steps: 2,
			perLabel: 3,
			output: join(tiny.root, 'grid.png'),
		});
		expect(drawn.images).toBe(6);
		expect((await readFile(drawn.output)).subarray(1, 4).toString()).toBe('PNG');
	});

	it('resumes to the same bits as a run never stopped', async () => {
		await trainModel(config('straight'));
		await stopAfter(7, 'stopped');
		const result = await trainModel(config('stopped'), { resume: true });
		expect(result).toMatchObject({ step: 12, finished: true });
		const [a, b] = [await readLosses(folder('straight')), await readLosses(folder('stopped'))];
		expect([...b]).toEqual([...a]);
		const weights = (name: string) => readFile(join(folder(name), 'pipeline', 'transformer', 'diffusion_pytorch_model.safetensors'));
		expect((await weights('stopped')).equals(await weights('straight'))).toBe(true);
	});

	it('goes on from an older checkpoint: later ones are left behind, not resumed', async () => {
		const checkpoints = join(folder('older'), 'checkpoints');
		const saving = { checkpoint: { every_steps: 1, keep_last: 1 } };
		await trainModel(config('older', { train: { max_steps: 4 }, checkpoint: { every_steps: 1, keep_last: 0 } }));
		const back = { resume: join(checkpoints, 'step-00000002') };
		await trainModel(config('older', { train: { max_steps: 3 }, ...saving }), back);
		expect(await readdir(checkpoints)).toEqual(['step-00000003']);
	});

	it('names the checkpoint before a damaged one', async () => {
		await trainModel(config('torn', { train: { max_steps: 2 }, checkpoint: { every_steps: 1, keep_last: 0 } }));
		const [before, newest] = [1, 2].map((step) => join(folder('torn'), 'checkpoints', `step-0000000${step}`)) as [string, string];
		const go = (resume: string | true) => trainModel(config('torn', { train: { max_steps: 3 } }), { resume });
		await writeFile(join(newest, 'training', 'optimizer.safetensors'), 'torn');
		await expect(go(true)).rejects.toThrow(`--resume ${before}`);
		await writeFile(join(newest, 'training', 'state.json'), '{"version": 1, "step": 2, "cuts": [3], "config": null}');
		await expect(go(true)).rejects.toThrow(`--resume ${before}`);
		expect(await go(before)).toMatchObject({ step: 3, finished: true });
	});

	it('refuses a checkpoint with a byte changed, naming file and checksums; one without checksums is gone on from', async () => {
		const saving = { checkpoint: { every_steps: 1, keep_last: 0 } };
		await trainModel(config('flipped', { ...saving, train: { max_steps: 2 } }));
		const [before, newest] = [1, 2].map((step) => join(folder('flipped'), 'checkpoints', `step-0000000${step}`)) as [string, string];
		const state = JSON.parse(await readFile(join(newest, 'training', 'state.json'), 'utf8')) as { checksums?: Record<string, string> };
		const files = [...['', '_ema'].map((end) => `transformer${end}/diffusion_pytorch_model.safetensors`), 'training/optimizer.safetensors'];
		expect(Object.keys(state.checksums!)).toEqual(files);
		const go = (resume: string | true) => trainModel(config('flipped', { ...saving, train: { max_steps: 3 } }), { resume });
		for (const name of files) {
			const bytes = await readFile(join(newest, name));
			const flipped = Buffer.from(bytes);
			flipped[flipped.length - 3]! ^= 1;
			await writeFile(join(newest, name), flipped);
			await expect(go(true)).rejects.toThrow(
				new RegExp(`${name}: is damaged[^]*expected: SHA-256 ${state.checksums![name]}[^]*found: [0-9a-f]{64}[^]*--resume ${before}`),
			);
			await writeFile(join(newest, name), bytes);
		}
		const { checksums: _, ...older } = state;
		await writeFile(join(newest, 'training', 'state.json'), JSON.stringify(older));
		expect(await go(true)).toMatchObject({ step: 3, finished: true });
	});

	it('measures held-out losses of step 0 once in a run that is stopped before its first step', async () => {
		const over = { train: { max_steps: 2 }, eval: { every_steps: 2, holdout: 4, quantiles: [0.5] } };
		const stopped = new AbortController();
		stopped.abort();
		await trainModel(config('at-once', over), { signal: stopped.signal });
		await trainModel(config('at-once', over), { resume: true });
		const lines = (await readFile(join(folder('at-once'), 'metrics.jsonl'), 'utf8')).trim().split('\n');
		expect(lines.map((line) => (JSON.parse(line) as { step: number }).step)).toEqual([0, 1, 2, 2]);
	});

	it('begins where a run was refused before it began, and names a folder that is a file', async () => {
		await expect(trainModel(config('refused', { parallel: { partition_split: [30] } }))).rejects.toThrow('parallel.partition_split');
		expect(await trainModel(config('refused', { train: { max_steps: 1 } }))).toMatchObject({ step: 1, finished: true });
		await writeFile(folder('a-file'), '');
		await expect(trainModel(config('a-file'))).rejects.toThrow(`${folder('a-file')}: cannot make the folder of the run`);
	});

	it('resumes on another number of devices within rounding', async () => {
		await stopAfter(6, 'moved');
		await trainModel(
			config('moved', {
				parallel: { pipeline_stages: 4, partition_split: [2, 3, 4], pipeline_schedule: 'gpipe' },
				train: { gradient_accumulation_steps: 4 },
			}),
			{ resume: true },
		);
		const straight = config('straight-2');
		await trainModel(straight);
		expect(relative(await readLosses(folder('straight-2')), await readLosses(folder('moved')))).toBeLessThan(1e-4);
		await stopAfter(6, 'replicated');
		await trainModel(config('replicated', { parallel: { pipeline_stages: 2, data_parallel: 2 } }), { resume: true });
		expect(relative(await readLosses(folder('straight-2')), await readLosses(folder('replicated')))).toBeLessThan(1e-4);
	});

	it('refuses a folder that holds a run, and a resume with another learning rate, saying what to do', async () => {
		await stopAfter(2, 'kept');
		await expect(trainModel(config('kept'))).rejects.toThrow(/holds a run already[\s\S]*--resume/);
		await expect(trainModel(config('kept', { optimizer: { lr: 1 } }), { resume: true })).rejects.toThrow(
			/optimizer.lr: 0.005 -> 1[\s\S]*--allow-config-change/,
		);
		expect((await readLosses(folder('kept'))).size).toBe(2);
	});

	it('skips broken files, names and counts them', async () => {
		const broken = await tinyData(10);
		try {
			await writeFile(join(broken.data, 'bright', '0.png'), 'not a picture');
			const skipped: string[] = [];
			const result = await trainModel(readTrainConfig(tinyConfig(broken.data, join(broken.root, 'run'), { train: { max_steps: 3 } })), {
				onEvent: (e) => {
					if (e.kind === 'skipped') skipped.push(e.name);
				},
			});
			expect(result).toMatchObject({ finished: true, skippedFiles: 1 });
			expect(skipped[0]).toContain('0.png');
		} finally {
			await broken.remove();
		}
	});

	it('ends with a clear error when the loss is no longer a number, and keeps the checkpoints made', async () => {
		await expect(
			trainModel(
				config('diverged', { optimizer: { lr: 1e30, warmup_steps: 0 }, train: { gradient_clipping: 0 }, checkpoint: { every_steps: 1 } }),
			),
		).rejects.toThrow(/no longer a finite number[\s\S]*optimizer.lr/);
		expect((await readdir(join(folder('diverged'), 'checkpoints'))).length).toBeGreaterThan(0);
	});

	it('writes no checkpoint of values that are no longer finite, and names the one before', async () => {
		const saving = { checkpoint: { every_steps: 1, keep_last: 0 } };
		await trainModel(config('poisoned', { ...saving, train: { max_steps: 1 } }));
		const checkpoints = join(folder('poisoned'), 'checkpoints');
		// As float32 this rate is infinite: the loss of the step itself is not.
		const going = trainModel(config('poisoned', { ...saving, optimizer: { lr: 1e39, warmup_steps: 0 } }), {
			resume: true,
			allowConfigChange: true,
		});
		const good = join(checkpoints, 'step-00000001');
		await expect(going).rejects.toThrow(new RegExp(`step 2, parameter .*no longer finite[^]*lower optimizer.lr[^]*--resume ${good} `));
		expect(await readdir(checkpoints)).toEqual(['step-00000001']);
	});

	it('refuses data that does not fit the model before any work', async () => {
		await expect(trainModel(config('misfit', { data: { height: 16, width: 16 } }))).rejects.toThrow(/images do not fit the model/);
	});
});
