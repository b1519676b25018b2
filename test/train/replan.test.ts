/** @file Planning again while training: the run moves to another layout between two steps, and its losses do not notice. */
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Chain } from '../../src/nn/chain.ts';
import { linear } from '../../src/nn/linear.ts';
import type { Profile } from '../../src/plan/profile/types.ts';
import { readSessionConfig, readTrainConfig } from '../../src/train/config.ts';
import type { TrainEvent } from '../../src/train/events.ts';
import { neverReplanned, plainCandidates, type Replanned, replanningSession } from '../../src/train/replan.ts';
import { hyperOf, openSession } from '../../src/train/session.ts';
import { type TrainOptions, trainModel } from '../../src/train/trainer.ts';
import { chainFeeds, selfChain } from '../engine/chains.ts';
import { readLosses } from '../helpers/tiny-run.ts';

const root = mkdtempSync(join(tmpdir(), 'replan-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const width = 8;
const layers = 6;
const chain: Chain = {
	name: 'linears',
	inputs: { x: { dtype: 'float32', shape: [width] } },
	layers: [
		...Array.from({ length: layers }, (_, i) => ({
			name: `layer.${i}`,
			build: (ctx: Parameters<Chain['layers'][number]['build']>[0], live: Parameters<Chain['layers'][number]['build']>[1]) =>
				live.set('x', ctx.g.tanh(linear(ctx, live.get('x'), width))),
		})),
		{ name: 'loss', build: ({ g }, live) => live.set('loss', g.reduceSumSquare(live.get('x'), [1], false)) },
	],
	outputs: ['loss'],
};

/** All of the time in layer `heavy`: the cut comes right before or after it. */
function profileWith(heavy: number): Profile {
	const ms = (i: number) => [i === heavy ? 100 : 0.01];
	return {
		version: 1,
		name: 'linears',
		batchSizes: [4],
		backbones: [
			{
				name: 'backbone',
				selfConditioning: 0,
				layers: Array.from({ length: layers + 1 }, (_, i) => ({
					...{ name: `layer.${i}`, forwardMs: ms(i), backwardInputMs: ms(i), backwardWeightMs: ms(i) },
					...{ cutBytes: 4 * width, activationBytes: 0, paramBytes: 0, gradBytes: 0 },
				})),
			},
		],
		frozen: [],
	};
}

describe('a session that plans again', () => {
	const configOn = (copies: number) =>
		readSessionConfig({
			train: { max_steps: 8, batch_size: 8, gradient_accumulation_steps: 2, ema_decay: 0.9 },
			optimizer: { lr: 1e-2 },
			parallel: { pipeline_stages: 2, data_parallel: copies },
		});
	const data = Float32Array.from({ length: 8 * width }, (_, i) => Math.sin(i));
	const feeds = { x: { dtype: 'float32', shape: [8, width], data } } as const;
	const options = { average: true, seed: 5 };

	async function train(first: number, then: number | undefined, least = 0.02, copies = 1) {
		const config = configOn(copies);
		const opened = await openSession(chain, config, { ...options, profile: profileWith(first) });
		const heard: Replanned[] = [];
		const session =
			then === undefined
				? opened
				: replanningSession(opened, opened.plan.planned!, {
						...{ after: 4, maxSteps: 8, firstStep: 0, moments: 3, least },
						plan: () => plainCandidates(chain, config, options)(profileWith(then)),
						onReplanned: (result) => void heard.push(result),
					});
		const { parameters } = session;
		try {
			const losses: number[] = [];
			for (let step = 0; step < 8; step++) {
				await session.rearrange?.();
				losses.push((await session.step(feeds, hyperOf(config, step).hyper)).loss);
			}
			const values = (role: Parameters<(typeof parameters)[0]['views']>[0]) =>
				new Map(parameters.map((p) => [p.name, p.views(role)[0]!.slice()]));
			return { losses, heard, cuts: session.plan.cuts, weights: values('parameter'), average: values({ moment: 2 }) };
		} finally {
			await session.close();
		}
	}

	it.each([1, 2])(
		'moves weights, moments and average of %i pipelines: every later loss and value is that of a run that stays',
		async (copies) => {
			const stays = await train(0, undefined, 0, copies);
			const moves = await train(0, layers - 1, Number.NEGATIVE_INFINITY, copies);
			expect(moves.heard.map(({ moved }) => moved)).toEqual([true]);
			expect(moves.cuts).not.toEqual(stays.cuts);
			expect(moves.losses.slice(0, 4)).toEqual(stays.losses.slice(0, 4));
			moves.losses.forEach((loss, i) => {
				expect(Math.abs(loss / stays.losses[i]! - 1)).toBeLessThan(1e-5);
			});
			for (const which of ['weights', 'average'] as const) {
				for (const [name, values] of stays[which]) {
					moves[which].get(name)!.forEach((value, i) => {
						expect(Math.abs(value - values[i]!)).toBeLessThan(1e-5);
					});
				}
			}
		},
	);

	it('plans again from steps with a sweep ahead alone', async () => {
		const config = configOn(1);
		const own = { ...options, selfConditioning: { input: 'self_cond', output: 'x0', probability: 1 } };
		const drawn = chainFeeds(selfChain, 8);
		const zeros = { ...drawn, self_cond: { ...drawn.self_cond!, data: new Float32Array(drawn.self_cond!.data.length) } };
		const wrong = (heavy: number) => {
			const { backbones, ...others } = profileWith(heavy);
			const [backbone] = backbones;
			return { ...others, backbones: [{ ...backbone!, layers: selfChain.layers.map((_, i) => backbone!.layers[i === heavy ? i : 1]!) }] };
		};
		const train = async (again: boolean) => {
			const opened = await openSession(selfChain, config, { ...own, profile: wrong(0) });
			const corrected: Profile[] = [];
			const plan = (profile: Profile) => {
				corrected.push(profile);
				return plainCandidates(selfChain, config, own)(wrong(5));
			};
			const setup = { after: 3, maxSteps: 5, firstStep: 0, moments: 3, least: Number.NEGATIVE_INFINITY, plan, onReplanned: () => {} };
			const session = again ? replanningSession(opened, opened.plan.planned!, setup) : opened;
			try {
				const losses: number[] = [];
				for (let step = 0; step < 5; step++) {
					await session.rearrange?.();
					losses.push((await session.step(zeros, hyperOf(config, step).hyper, false, undefined, true)).loss);
				}
				return { losses, corrected, cuts: session.plan.cuts };
			} finally {
				await session.close();
			}
		};
		const [stays, moves] = [await train(false), await train(true)];
		expect(moves.cuts).not.toEqual(stays.cuts);
		moves.losses.forEach((loss, i) => {
			expect(Math.abs(loss / stays.losses[i]! - 1)).toBeLessThan(1e-5);
		});
		// The first layer took 100 ms in the profile, and next to nothing in the steps.
		const [first] = moves.corrected[0]!.backbones[0]!.layers;
		for (const times of [first!.forwardMs, first!.backwardInputMs, first!.backwardWeightMs]) expect(times[0]).toBeLessThan(50);
	});

	it('says that it was resumed too late to measure a step before', async () => {
		const config = configOn(1);
		const opened = await openSession(chain, config, { ...options, profile: profileWith(0) });
		const heard: string[] = [];
		const session = replanningSession(opened, opened.plan.planned!, {
			...{ after: 4, maxSteps: 8, firstStep: 3, moments: 3, least: 0, plan: plainCandidates(chain, config, options) },
			...{ onReplanned: () => void heard.push('planned'), onUnmeasured: () => void heard.push('unmeasured') },
		});
		for (let step = 3; step < 6; step++) {
			await session.rearrange!();
			await session.step(feeds, hyperOf(config, step).hyper);
		}
		await session.close();
		expect(heard).toEqual(['unmeasured']);
		expect([neverReplanned(4, 3, 8), neverReplanned(4, 8, 8)]).toEqual([undefined, undefined]);
		expect([neverReplanned(4, 4, 8), neverReplanned(8, 0, 8)]).toEqual([
			'it goes on after step 4, and parallel.replan_after is 4',
			'parallel.replan_after is 8, and its last step 8',
		]);
	});

	it('stays where the new plan does not promise enough', async () => {
		const { heard, cuts, losses } = await train(0, 0);
		expect(heard.map(({ moved }) => moved)).toEqual([false]);
		const stays = await train(0, undefined);
		expect([cuts, losses]).toEqual([stays.cuts, stays.losses]);
	});
});

const configOf = (folder: string, cache: string, parallel: Record<string, unknown> = {}) =>
	readTrainConfig({
		output_dir: folder,
		model: {
			...{ type: 'PixArtTransformer2DModel', sample_size: 8, patch_size: 4, in_channels: 4, out_channels: 4, num_layers: 2 },
			...{ num_attention_heads: 2, attention_head_dim: 8, cross_attention_dim: 16, caption_channels: 96 },
		},
		scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
		data: { type: 'emoji', categories: ['Food & Drink'], size: 32 },
		vae: { path: 'assets/emoji-vae' },
		text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
		frozen: { cache },
		train: { max_steps: 6, batch_size: 8, gradient_accumulation_steps: 2 },
		eval: { every_steps: 3, holdout: 4, quantiles: [0.5] },
		parallel: { pipeline_stages: 2, ...parallel },
		sample: { enabled: false },
		log: { tensorboard: false },
	});

it('a filled run that was planned from wrong times corrects them, moves, and keeps its losses', async () => {
	const [stays, moves] = [join(root, 'stays'), join(root, 'moves')];
	await trainModel(configOf(stays, 'inline', { partition_method: 'manual', partition_split: [2] }));
	// It stops, finds another profile when it goes on, which says that all of the time is in the first layers, and plans from that.
	const stop = new AbortController();
	await trainModel(configOf(moves, 'fill'), { signal: stop.signal, onEvent: (e) => void (e.kind === 'step' && stop.abort()) });
	const path = join(moves, 'profile.json');
	const profile = JSON.parse(await readFile(path, 'utf8')) as Profile;
	const wrong = (ms: readonly number[], l: number) => ms.map((each) => (l === 0 ? 1000 * (each + 0.1) : each));
	const [backbone] = profile.backbones;
	const wrongLayers = backbone!.layers.map((layer, l) => ({
		...layer,
		forwardMs: wrong(layer.forwardMs, l),
		backwardWeightMs: wrong(layer.backwardWeightMs, l),
	}));
	await writeFile(path, JSON.stringify({ ...profile, backbones: [{ ...backbone!, layers: wrongLayers }] }));
	const notes: string[] = [];
	await trainModel(configOf(moves, 'fill', { replan_after: 3, replan_gain: -1000 }), {
		resume: true,
		onEvent: (e) => void (e.kind === 'note' && notes.push(e.text)),
	});
	expect(notes.filter((text) => text.startsWith('from measured times')).map((text) => text.split(': ').at(-1))).toEqual(['moved']);
	const measured = async (folder: string, key: 'loss' | 'eval_loss') =>
		(await readFile(join(folder, 'metrics.jsonl'), 'utf8')).split('\n').flatMap((line) => {
			const value = line === '' ? undefined : (JSON.parse(line) as Partial<Record<'loss' | 'eval_loss', number>>)[key];
			return value === undefined ? [] : [value];
		});
	const [losses, evaluated] = [await measured(stays, 'loss'), await measured(stays, 'eval_loss')];
	expect([losses.length, evaluated.length]).toEqual([6, 3]);
	for (const [i, loss] of (await measured(moves, 'loss')).entries()) expect(Math.abs(loss / losses[i]! - 1)).toBeLessThan(1e-5);
	for (const [i, loss] of (await measured(moves, 'eval_loss')).entries()) expect(Math.abs(loss / evaluated[i]! - 1)).toBeLessThan(1e-5);
	expect((JSON.parse(await readFile(path, 'utf8')) as Profile).backbones[0]!.layers[0]!.forwardMs[0]).toBeLessThan(100);
}, 180_000);

it('a resumed run without frozen work plans again from the profile of its first start', async () => {
	const [stays, moves] = [join(root, 'plain-stays'), join(root, 'plain-moves')];
	const run = async (folder: string, parallel: Record<string, unknown>, options: TrainOptions = {}) => {
		const notes: string[] = [];
		const onEvent = (event: TrainEvent) => {
			if (event.kind === 'note') notes.push(event.text);
			options.onEvent?.(event);
		};
		await trainModel(configOf(folder, 'inline', parallel), { ...options, onEvent });
		return notes.flatMap((text) => (/^(from measured|nothing is planned)/.test(text) ? [text.split(': ').at(-1)] : []));
	};
	await run(stays, { partition_method: 'manual', partition_split: [2] });
	const stop = new AbortController();
	await run(moves, {}, { signal: stop.signal, onEvent: (e) => void (e.kind === 'step' && stop.abort()) });
	const path = join(moves, 'profile.json');
	const again = new AbortController();
	const late = await run(
		moves,
		{ replan_after: 1 },
		{ resume: true, signal: again.signal, onEvent: (e) => void (e.kind === 'step' && again.abort()) },
	);
	expect(late).toEqual(['it goes on after step 1, and parallel.replan_after is 1']);
	const first = await readFile(path, 'utf8');
	expect(await run(moves, { replan_after: 4, replan_gain: -1000 }, { resume: true })).toEqual(['moved']);
	expect(await readFile(path, 'utf8')).not.toBe(first);
	const [losses, found] = [await readLosses(stays), await readLosses(moves)];
	expect([...found.keys()]).toEqual([...losses.keys()]);
	for (const [step, loss] of losses) if (loss !== undefined) expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
	await rm(path);
	expect(await run(moves, { replan_after: 6 }, { resume: true })).toEqual(['the layers of this run were not measured']);
}, 180_000);
