/** @file What every engine must do alike: the same losses, gradients and updated weights as one graph on one device, however a chain is laid over devices. */
import { describe, expect, it } from 'vitest';
import { sizeOf, type Tensor, tensor } from '../../src/core/tensor.ts';
import type { Recompute } from '../../src/graph/saved.ts';
import type { Graph } from '../../src/graph/types.ts';
import { type Chain, traceChain } from '../../src/nn/chain.ts';
import { placeSchedule } from '../../src/plan/schedules/index.ts';
import type { PlaceOptions, WarmUp } from '../../src/plan/schedules/types.ts';
import type { Layout as PlanLayout } from '../../src/plan/types.ts';
import { type AdamwStep, adamwGraph, adamwHyper, adamwHyperSize } from '../../src/program/adamw.ts';
import { type Compiled, type CompiledPipelines, lowerForward, lowerPipelines, type TrainedBackbone } from '../../src/program/lower.ts';
import type { BankId, DeviceId } from '../../src/program/types.ts';
import { verifyProgram } from '../../src/program/verify.ts';
import { expectClose } from '../helpers/close.ts';
import { bufferChain, chainFeeds, crossingChains, longChain, mixedChain, selfChain, skipChain } from './chains.ts';
import { collectiveProgram } from './collective-program.ts';
import { evaluateChain, ReferenceAdamw, referenceOf, seededWeights, type Weights } from './reference.ts';

/** Which of a bank's buffers. */
export type BankRole = 'parameter' | 'gradient' | { readonly moment: number };

/** The little that the suite asks of an engine. */
export interface EngineUnderTest {
	/** Runs a section, or that of iterations with a sweep ahead, and returns what it fetched, by name. */
	run(
		section: 'prologue' | 'iteration' | 'epilogue',
		feeds: Readonly<Record<string, Tensor>>,
		swept?: boolean,
	): Promise<ReadonlyMap<string, Tensor>>;
	read(device: DeviceId, bank: BankId, role: BankRole): Promise<Float32Array>;
	write(device: DeviceId, bank: BankId, role: BankRole, values: Float32Array): Promise<void>;
	close(): Promise<void>;
}

/** Starts an engine; `update` is the optimiser's graph for programs that update. */
export type MakeEngine = (compiled: Compiled, update: Graph | undefined) => Promise<EngineUnderTest>;

export interface SuiteOptions {
	/** Relative tolerance of losses and gradients. Default 1e-5. */
	readonly rtol?: number;
}

type SelfConditioning = NonNullable<TrainedBackbone['selfConditioning']>;

interface Layout {
	readonly name: string;
	readonly cuts: readonly number[];
	readonly schedule: string;
	readonly replicas: number;
	readonly microBatches: number;
	readonly warmup?: WarmUp;
	readonly recompute?: Recompute;
	/** Where the stages lie, when not one on each rank. */
	readonly place?: Pick<PlaceOptions, 'ranks' | 'placement' | 'chunks'>;
	/** Devices of each rank, and how they are numbered. */
	readonly shares?: readonly number[];
	readonly numbering?: PlanLayout;
}

const batch = 8;
/** A layout of `batch` samples. */
export const layout = (cuts: readonly number[], schedule: string, replicas: number, microBatches: number): Layout => ({
	name: `${replicas} x ${cuts.length + 1} devices, ${schedule}, ${microBatches} micro-batches`,
	cuts,
	schedule,
	replicas,
	microBatches,
});

const few = [layout([], 'gpipe', 1, 2), layout([2], '1f1b', 1, 4), layout([1, 2, 3], '1f1b', 1, 8), layout([1, 3], '1f1b', 2, 2)];
const all: readonly Layout[] = [
	...few,
	layout([], 'gpipe', 1, 1),
	layout([2], 'gpipe', 1, 4),
	layout([1, 3], 'gpipe', 1, 2),
	layout([1, 3], '1f1b', 1, 4),
	layout([2, 3, 4], 'gpipe', 1, 4),
	layout([], '1f1b', 2, 2),
	layout([2], 'gpipe', 2, 2),
	layout([2], '1f1b', 2, 4),
	{ ...layout([1, 2, 3], '1f1b', 1, 8), name: 'deep warm-up, 4 devices', warmup: 'deep' },
	{ ...layout([1, 3], '1f1b', 1, 4), name: 'recomputing what is cheap, 3 devices', recompute: 'cheap' },
	{ ...layout([1, 3], '1f1b', 1, 4), name: 'recomputing everything, 3 devices', recompute: 'full' },
];

/** The layers of a chain in as many stages of about equal numbers. */
const evenCuts = ({ layers }: Chain, stages: number): number[] =>
	Array.from({ length: stages - 1 }, (_, s) => Math.round(((s + 1) * layers.length) / stages));

const foldedOnTwo = { ranks: 2, placement: 'folded' } as const;

/** Every schedule of the planner on eight devices. */
export const onEight: readonly Layout[] = [
	{ ...layout(evenCuts(skipChain, 8), 'gpipe', 1, 8), name: 'gpipe, 8 ranks' },
	{ ...layout(evenCuts(skipChain, 8), '1f1b', 1, 8), name: '1f1b, 8 ranks' },
	{ ...layout(evenCuts(skipChain, 16), 'interleaved-1f1b', 1, 8), name: 'interleaved-1f1b, 8 ranks of 2', place: { ranks: 8, chunks: 2 } },
	{
		...layout(evenCuts(skipChain, 12), 'interleaved-1f1b', 2, 4),
		name: 'interleaved-1f1b, 2 x 4 ranks of 3',
		place: { ranks: 4, chunks: 3 },
	},
	{ ...layout(evenCuts(skipChain, 8), 'zero-bubble', 1, 8), name: 'zero-bubble, 8 ranks' },
	{ ...layout(evenCuts(skipChain, 8), 'zero-bubble', 1, 8), name: 'zero-bubble, 8 ranks, recomputing', recompute: 'cheap', warmup: 'deep' },
	{ ...layout(evenCuts(skipChain, 4), 'zero-bubble', 2, 4), name: 'zero-bubble, 2 x 4 ranks, recomputing everything', recompute: 'full' },
	...['gpipe', '1f1b', 'zero-bubble'].map(
		(schedule): Layout => ({
			...layout(evenCuts(skipChain, 16), schedule, 1, 8),
			name: `${schedule}, folded on 8 ranks`,
			place: { ranks: 8, placement: 'folded' },
		}),
	),
	{ ...layout(evenCuts(skipChain, 3), '1f1b', 1, 2), name: '1f1b, ranks of 1, 3 and 4 devices', shares: [1, 3, 4] },
	{
		...layout(evenCuts(skipChain, 4), 'zero-bubble', 2, 2),
		name: 'zero-bubble, folded, 2 x ranks of 2 and 1 devices among copies',
		place: { ranks: 2, placement: 'folded' },
		shares: [2, 1],
		numbering: 'copies',
	},
	{
		...layout(evenCuts(skipChain, 4), 'interleaved-1f1b', 2, 2),
		name: 'interleaved-1f1b, 2 x 2 ranks of 2 devices',
		place: { ranks: 2, chunks: 2 },
		shares: [2, 2],
	},
];

/** Lowers and verifies a training step of `chain`. */
export function compile(
	chain: Chain,
	{ cuts, schedule, replicas, microBatches, warmup = 'usual', recompute = 'views', place, shares, numbering }: Layout,
	optimiser: { moments: number; hyperSize: number },
	selfConditioning?: SelfConditioning,
): CompiledPipelines {
	const microBatchSize = batch / (replicas * microBatches);
	const options: PlaceOptions = { ranks: cuts.length + 1, microBatches, warmup, ...place };
	const compiled = lowerPipelines([{ trace: traceChain(chain, microBatchSize), cuts, ...(selfConditioning ? { selfConditioning } : {}) }], {
		schedule: placeSchedule(schedule, options),
		...(selfConditioning ? { sweptSchedule: placeSchedule(schedule, { ...options, selfConditioning: true }) } : {}),
		pipelines: replicas,
		microBatches,
		microBatchSize,
		recompute,
		...(shares ? { replicas: shares } : {}),
		...(numbering ? { layout: numbering } : {}),
		...optimiser,
	});
	verifyProgram(compiled.program);
	return compiled;
}

/** Every bank on every device that holds it, of all backbones or of one. */
function holders(
	{ program, banks, stages }: Compiled & Partial<CompiledPipelines>,
	backbone?: number,
): { device: DeviceId; bank: Compiled['banks'][number] }[] {
	const own = banks.filter((_, n) => backbone === undefined || stages![n]!.backbone === backbone);
	return program.devices.flatMap((d) =>
		own.filter(({ bank }) => d.banks.some(({ id }) => id === bank)).map((bank) => ({ device: d.device, bank })),
	);
}

/** Writes weights to every copy of every bank. */
export async function writeWeights(
	engine: Pick<EngineUnderTest, 'write'>,
	compiled: Compiled,
	role: BankRole,
	weights: Weights,
	backbone?: number,
): Promise<void> {
	for (const { device, bank } of holders(compiled, backbone)) {
		const flat = new Float32Array(bank.size);
		for (const p of bank.parameters) flat.set(weights.get(p.name)!, p.offset);
		await engine.write(device, bank.bank, role, role === 'parameter' ? flat : flat.subarray(0, bank.trained));
	}
}

/** Compares every parameter on every device with `wanted`, each with a tolerance of `rtol` times the largest wanted element. */
async function compareBanks(
	engine: EngineUnderTest,
	compiled: Compiled,
	role: BankRole,
	wanted: ReadonlyMap<string, ArrayLike<number>>,
	rtol: number,
	backbone?: number,
): Promise<void> {
	const seen = new Set<string>();
	const firstOf = new Map<BankId, Float32Array>();
	for (const { device, bank } of holders(compiled, backbone)) {
		const flat = await engine.read(device, bank.bank, role);
		// Replicas hold the same bits, or they would drift apart.
		const first = firstOf.get(bank.bank);
		if (first) expect(flat, `device ${device}`).toEqual(first);
		else firstOf.set(bank.bank, flat);
		for (const { name, shape, offset, trained } of bank.parameters) {
			seen.add(name);
			// What is not trained has neither gradient nor moments.
			if (!trained && role !== 'parameter') continue;
			const reference = Array.from(wanted.get(name)!);
			const scale = Math.max(...reference.map(Math.abs));
			expectClose(flat.subarray(offset, offset + sizeOf(shape)), reference, {
				rtol,
				atol: rtol * scale + 1e-9,
				what: `device ${device}, ${typeof role === 'string' ? role : 'moment'} ${name}`,
			});
		}
	}
	expect([...seen].sort()).toEqual([...wanted.keys()].sort());
}

const optimiserStep = (step: number): AdamwStep => ({
	lr: 0.01,
	betas: [0.9, 0.99],
	eps: 1e-8,
	weightDecay: 0.1,
	step,
	maxGradNorm: 0.5,
	emaDecay: 0.9,
});

/** Declares the tests of an engine called `name`. */
export function engineSuite(name: string, makeEngine: MakeEngine, { rtol = 1e-5 }: SuiteOptions = {}): void {
	const gradientsAgree = async (chain: Chain, where: Layout) => {
		const reference = referenceOf(chain, batch);
		const weights = seededWeights(reference.parameters);
		const feeds = chainFeeds(chain, batch);
		const wanted = reference.run(weights, feeds);
		const compiled = compile(chain, where, { moments: 0, hyperSize: 0 });
		const engine = await makeEngine(compiled, undefined);
		try {
			await writeWeights(engine, compiled, 'parameter', weights);
			const fetched = await engine.run('iteration', feeds);
			expectClose(fetched.get('loss')!, wanted.losses, { rtol, what: 'losses' });
			await compareBanks(engine, compiled, 'gradient', wanted.grads, rtol);
		} finally {
			await engine.close();
		}
	};

	describe(`${name}: losses and gradients of one graph on one device`, () => {
		for (const where of all) it(`${mixedChain.name}, ${where.name}`, () => gradientsAgree(mixedChain, where));
		for (const chain of crossingChains) {
			for (const where of few) it(`${chain.name}, ${where.name}`, () => gradientsAgree(chain, where));
		}
		const twelve = layout(
			longChain.layers.slice(1).map((_, i) => i + 1),
			'1f1b',
			1,
			8,
		);
		it(`${longChain.name}, ${twelve.name}`, () => gradientsAgree(longChain, twelve));
		const crossing = (cuts: readonly number[]): Layout => ({ ...layout(cuts, 'zero-bubble', 1, 4), name: 'zero-bubble' });
		const folded = { ...crossing([1, 2, 3]), name: 'zero-bubble, folded', place: foldedOnTwo };
		const uneven = { ...layout([1, 3], 'zero-bubble', 1, 2), name: 'zero-bubble, ranks of 1, 3 and 2 devices', shares: [1, 3, 2] };
		for (const chain of crossingChains) {
			for (const where of [crossing([1, 3]), folded]) it(`${chain.name}, ${where.name}`, () => gradientsAgree(chain, where));
			// A parameter that is sent on has no samples of which devices could take shares.
			const isSplit = !chain.name.includes('parameters that are sent on');
			it(`${chain.name}, ${uneven.name}`, async () => {
				if (isSplit) await gradientsAgree(chain, uneven);
				else await expect(gradientsAgree(chain, uneven)).rejects.toThrow(/scale does not have the samples as its first axis/);
			});
		}
	});

	describe(`${name}: three steps of AdamW under every schedule`, () => {
		for (const where of onEight) it(where.name, () => stepsAgree(skipChain, where, false));
		const cascades = [
			['8 ranks', 2, 8, undefined],
			['2 x ranks of 1, 2 and 1 devices', 2, 3, [1, 2, 1]],
			['3 backbones by turns, 4 ranks', 3, 4, undefined],
			['3 backbones by turns, 2 x ranks of 1 and 2 devices', 3, 2, [1, 2]],
		] as const;
		for (const [where, backbones, ranks, shares] of cascades) it(`bidirectional, ${where}`, () => cascadeAgrees(backbones, ranks, shares));
		const swept = [
			{ ...layout(evenCuts(selfChain, 8), '1f1b', 1, 8), name: '1f1b, 8 ranks' },
			{ ...layout(evenCuts(selfChain, 4), 'zero-bubble', 2, 2), name: 'zero-bubble, folded', place: foldedOnTwo, shares: [1, 2] },
		];
		for (const where of swept) it(`self-conditioning in ${where.name}`, () => sweepsAgree(where));
	});

	it(`${name}: prologue, collectives of unequal parts, messages and epilogue`, async () => {
		const { compiled, feeds, gathered } = collectiveProgram();
		verifyProgram(compiled.program);
		const engine = await makeEngine(compiled, undefined);
		try {
			expect((await engine.run('prologue', feeds(0))).size).toBe(0);
			for (const step of [1, 2]) {
				const fetched = await engine.run('iteration', feeds(step));
				for (const [key, wanted] of Object.entries(gathered(step))) expectClose(fetched.get(key)!, wanted, { rtol, what: key });
			}
			const last = await engine.run('epilogue', {});
			expectClose(last.get('bias')!, feeds(0).bias!, { rtol: 0, what: 'bias' });
		} finally {
			await engine.close();
		}
	});

	describe(`${name}: forward runs`, () => {
		for (const chain of [{ ...mixedChain, outputs: ['h', 'loss'] }, ...crossingChains]) {
			it(chain.name, async () => {
				const weights = seededWeights(referenceOf({ ...chain, outputs: ['loss'] }, batch).parameters);
				const feeds = chainFeeds(chain, batch);
				const wanted = evaluateChain(chain, batch, weights, feeds);
				// A pipeline; and for the first chain one device, two copies, and two copies of a pipeline.
				const layouts: readonly (readonly [readonly number[], number, number])[] = [
					[[1, 2, 3], 4, 4],
					...(chain.name === mixedChain.name
						? ([
								[[], 1, 1],
								[[], 2, 2],
								[[1, 3], 6, 2],
							] as const)
						: []),
				];
				for (const [cuts, devices, microBatches] of layouts) {
					const microBatchSize = (batch * (cuts.length + 1)) / (devices * microBatches);
					const compiled = lowerForward(traceChain(chain, microBatchSize), { cuts, devices, microBatches, microBatchSize });
					verifyProgram(compiled.program);
					const engine = await makeEngine(compiled, undefined);
					try {
						await writeWeights(engine, compiled, 'parameter', weights);
						const fetched = await engine.run('iteration', feeds);
						expect([...fetched.keys()].sort()).toEqual([...wanted.keys()].sort());
						for (const [key, value] of wanted)
							expectClose(fetched.get(key)!, value, { rtol, atol: rtol, what: `${devices} devices, ${key}` });
					} finally {
						await engine.close();
					}
				}
			});
		}
	});

	const stepsAgree = async (chain: Chain, where: Layout, ema: boolean) => {
		const reference = referenceOf(chain, batch);
		const weights = seededWeights(reference.parameters);
		const buffers = new Set(reference.parameters.filter((p) => !p.trained).map((p) => p.name));
		const optimiser = new ReferenceAdamw(weights, buffers);
		const compiled = compile(chain, where, { moments: ema ? 3 : 2, hyperSize: adamwHyperSize });
		const engine = await makeEngine(compiled, adamwGraph(ema));
		try {
			await writeWeights(engine, compiled, 'parameter', weights);
			if (ema) await writeWeights(engine, compiled, { moment: 2 }, weights);
			for (let step = 1; step <= 3; step++) {
				const feeds = chainFeeds(chain, batch, step);
				const { losses, grads } = reference.run(optimiser.rounded(), feeds);
				const squared = optimiser.update(grads, optimiserStep(step));
				const hyper = tensor('float32', [adamwHyperSize], adamwHyper(optimiserStep(step)));
				const fetched = await engine.run('iteration', { ...feeds, hyper });
				expectClose(fetched.get('loss')!, losses, { rtol: 10 * rtol, what: `losses of step ${step}` });
				expectClose(fetched.get('normSquared')!, [squared], { rtol: 10 * rtol, what: `squared norm of step ${step}` });
			}
			await compareBanks(engine, compiled, 'parameter', optimiser.weights, 10 * rtol);
			if (ema) await compareBanks(engine, compiled, { moment: 2 }, optimiser.average, 10 * rtol);
			const zero = new Map([...weights].map(([n, w]) => [n, new Float32Array(w.length)]));
			await compareBanks(engine, compiled, 'gradient', zero, 0);
		} finally {
			await engine.close();
		}
	};

	/** Backbones whose parameters have the same names, by turns down the ranks and up, each with its own loss, gradient norm and step size. */
	const cascadeAgrees = async (backbones: number, ranks: number, shares: readonly number[] | undefined) => {
		const pipelines = shares ? 2 : 1;
		const microBatches = shares ? 2 : batch;
		const microBatchSize = batch / (pipelines * microBatches);
		const without = (layer: string, name: string): Chain => ({
			...skipChain,
			name,
			layers: skipChain.layers.filter((l) => l.name !== layer),
		});
		const chains = [skipChain, without('up2', 'larger'), without('up5', 'largest')].slice(0, backbones);
		const compiled = lowerPipelines(
			chains.map((chain) => ({ trace: traceChain(chain, microBatchSize), cuts: evenCuts(chain, ranks) })),
			{
				schedule: placeSchedule('bidirectional', { ranks, microBatches, backbones }),
				pipelines,
				microBatches,
				microBatchSize,
				moments: 2,
				hyperSize: adamwHyperSize,
				...(shares ? { replicas: shares } : {}),
			},
		);
		verifyProgram(compiled.program);
		const sides = chains.map((chain, b) => {
			const reference = referenceOf(chain, batch);
			const weights = seededWeights(reference.parameters, 3 + b);
			return { chain, reference, weights, optimiser: new ReferenceAdamw(weights), lr: 0.01 / (b + 1) };
		});
		const engine = await makeEngine(compiled, adamwGraph(false));
		try {
			for (const [b, { weights }] of sides.entries()) await writeWeights(engine, compiled, 'parameter', weights, b);
			for (let step = 1; step <= 3; step++) {
				const feeds: Record<string, Tensor> = {};
				const wanted = sides.map(({ chain, reference, optimiser, lr }, b) => {
					const own = chainFeeds(chain, batch, 10 * b + step);
					const { losses, grads } = reference.run(optimiser.rounded(), own);
					for (const [input, value] of Object.entries(own)) feeds[`${chain.name}.${input}`] = value;
					feeds[`${chain.name}.hyper`] = tensor('float32', [adamwHyperSize], adamwHyper({ ...optimiserStep(step), lr }));
					return { losses, squared: optimiser.update(grads, { ...optimiserStep(step), lr }) };
				});
				const fetched = await engine.run('iteration', feeds);
				for (const [b, { losses, squared }] of wanted.entries()) {
					const { name: chain } = chains[b]!;
					expectClose(fetched.get(`${chain}.loss`)!, losses, { rtol: 10 * rtol, what: `${chain}, losses of step ${step}` });
					expectClose(fetched.get(`${chain}.normSquared`)!, [squared], { rtol: 10 * rtol, what: `${chain}, squared norm of step ${step}` });
				}
			}
			for (const [b, { optimiser }] of sides.entries()) await compareBanks(engine, compiled, 'parameter', optimiser.weights, 10 * rtol, b);
		} finally {
			await engine.close();
		}
	};

	/** Iterations with the sweep ahead, between ones without. */
	const sweepsAgree = async (where: Layout) => {
		const reference = referenceOf(selfChain, batch);
		const weights = seededWeights(reference.parameters);
		const optimiser = new ReferenceAdamw(weights);
		const back = { input: 'self_cond', output: 'x0' };
		const compiled = compile(selfChain, where, { moments: 2, hyperSize: adamwHyperSize }, back);
		const engine = await makeEngine(compiled, adamwGraph(false));
		try {
			await writeWeights(engine, compiled, 'parameter', weights);
			for (const [k, isSwept] of [true, false, true].entries()) {
				const step = optimiserStep(k + 1);
				const drawn = chainFeeds(selfChain, batch, k + 1);
				const zeros = { ...drawn, self_cond: tensor('float32', drawn.x!.shape, new Array<number>(drawn.x!.data.length).fill(0)) };
				const rounded = optimiser.rounded();
				const first = isSwept ? evaluateChain({ ...selfChain, outputs: ['x0'] }, batch, rounded, zeros).get('x0')! : zeros.self_cond;
				const { losses, grads } = reference.run(rounded, { ...zeros, self_cond: first });
				const squared = optimiser.update(grads, step);
				const hyper = tensor('float32', [adamwHyperSize], adamwHyper(step));
				const fetched = await engine.run('iteration', { ...zeros, hyper }, isSwept);
				expectClose(fetched.get('loss')!, losses, { rtol: 10 * rtol, what: `losses of step ${k + 1}` });
				expectClose(fetched.get('normSquared')!, [squared], { rtol: 10 * rtol, what: `squared norm of step ${k + 1}` });
			}
			await compareBanks(engine, compiled, 'parameter', optimiser.weights, 10 * rtol);
		} finally {
			await engine.close();
		}
	};

	describe(`${name}: three steps of AdamW`, () => {
		for (const where of all) {
			// The moving average is part of the optimiser's graph or not.
			const ema = where !== few[0];
			it(`${mixedChain.name}, ${where.name}${ema ? '' : ', no moving average'}`, () => stepsAgree(mixedChain, where, ema));
		}
		for (const where of few) it(`${bufferChain.name}, ${where.name}`, () => stepsAgree(bufferChain, where, true));
	});
}
