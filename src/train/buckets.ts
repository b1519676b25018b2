/**
 * @file Training on images of several sizes: a model, an autoencoder and a compiled program for each, over one set of weights. Programs are compiled when
 * their size first comes up; each has threads and activations of its own, while weights, gradients and moments are there once.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import { trainingChain } from '../diffusion/objective.ts';
import type { Denoiser, DenoiserOptions } from '../models/index.ts';
import { type Chain, traceChain } from '../nn/chain.ts';
import type { TrainConfig } from './config.ts';
import { checkConditioning } from './controlnet/data.ts';
import type { ControlChains } from './controlnet/types.ts';
import { sizeKey } from './data/buckets.ts';
import type { DataSetInfo } from './data/types.ts';
import type { TrainEvent } from './events.ts';
import type { FeedMaker } from './feeds.ts';
import { type FrozenVae, openFrozenVae, packagedPath } from './frozen.ts';
import { frozenOptions } from './frozen-parts.ts';
import type { TrainedModel } from './model.ts';
import type { ReplannedSize } from './replan-sizes.ts';
import { openSession, type SessionOptions, type TrainingSession } from './session.ts';

/** What images of one size are trained with. */
export interface SizedParts {
	readonly vae: FrozenVae | undefined;
	/** Makes its feeds, but for those inputs that are given on the devices. */
	readonly maker: (given?: ReadonlySet<string>) => FeedMaker;
	readonly chain: Chain;
	/** Of a ControlNet: what `chain` is made of. */
	readonly control?: ControlChains | undefined;
}

/** The parts for every size of the data but its first, by `sizeKey` of the images. */
export interface BucketParts {
	readonly bySize: ReadonlyMap<string, SizedParts>;
	close(): Promise<void>;
}

/** What every size has in common. */
export interface BucketSetup {
	readonly config: TrainConfig;
	readonly data: DataSetInfo;
	readonly model: TrainedModel;
	/** Options of the denoiser beside its size. */
	readonly options: DenoiserOptions;
	/** The denoiser of the data's first size. */
	readonly denoiser: Denoiser;
	readonly maker: (denoiser: Denoiser, given?: ReadonlySet<string>) => FeedMaker;
	readonly say: (event: TrainEvent) => void;
}

/**
 * Builds the model for every size of the data and opens an autoencoder for each, whose weights are read when it is first used.
 * @throws DiffusionPipeError of kind 'config' when the model cannot be built for a size, or has other weights there
 */
export async function openBucketParts({ config, data, model, options, denoiser, maker, say }: BucketSetup): Promise<BucketParts> {
	const bySize = new Map<string, SizedParts>();
	const close = async () => {
		for (const { vae } of bySize.values()) await vae?.close();
	};
	const weightsOf = (chain: Chain) => JSON.stringify([...traceChain(chain, 1).parameters.values()].map(({ name, shape }) => [name, shape]));
	const wanted = weightsOf(denoiser.chain);
	try {
		for (const size of data.buckets ?? []) {
			if (sizeKey(size) === sizeKey(data)) continue;
			const place = `data.buckets: ${size.width} x ${size.height}`;
			const folder = config.vae.path === '' ? undefined : await packagedPath(config.vae.path, 'vae.path');
			const vae = folder === undefined ? undefined : await openFrozenVae(folder, size, config.seed, frozenOptions(config, say));
			const [, height, width] = vae?.latents ?? [data.channels, size.height, size.width];
			const { denoiser: own, control } = model.build({ ...options, height: height!, width: width! });
			checkConditioning({ ...data, ...size }, own.conditioning);
			const chain = trainingChain(own.chain, { ...own, globalBatch: config.train.batch_size });
			bySize.set(sizeKey(size), { vae, maker: (given) => maker(own, given), chain, control });
			if (weightsOf(own.chain) === wanted) continue;
			throw new DiffusionPipeError('config', 'the model has other weights at this size', {
				place,
				expected: 'a model whose weights do not depend on the size of its samples',
				found: `${model.className}`,
			});
		}
		return { bySize, close };
	} catch (error) {
		await close();
		throw error;
	}
}

/** What a step's samples have the shape of: tells sizes apart. */
function shapeText(shape: readonly number[]): string {
	return shape.join('x');
}

/** The sizes of a run, the data's first first: what is trained on each, and how many steps of a row. */
export function sizesOfRun(chain: Chain, parts: BucketParts, { buckets = [], ...data }: DataSetInfo, batchSize: number) {
	const stepsAt = (key: string) => Math.ceil((buckets.find((size) => sizeKey(size) === key)?.size ?? 0) / batchSize);
	const all = [[sizeKey(data), { chain }] as const, ...parts.bySize];
	return new Map(all.map(([key, own]): [string, ReplannedSize] => [shapeOf(own.chain), { chain: own.chain, steps: stepsAt(key) }]));
}

function shapeOf(chain: Chain): string {
	return shapeText(chain.inputs.noise!.shape);
}

/** Which of `sizesOfRun` feeds are for. */
export function sizeOfFeeds({ noise }: Parameters<TrainingSession['step']>[0]): string {
	return shapeText(noise!.shape.slice(1));
}

/** `base`, a session over the memory of `store`, with steps for the samples of `parts`, too: a step runs the program of the size of its feeds. */
export function bucketSession(
	base: TrainingSession,
	parts: BucketParts,
	setup: { config: TrainConfig; say: (event: TrainEvent) => void } & Pick<SessionOptions, 'average' | 'store' | 'selfConditioning'>,
): TrainingSession {
	const { config, say, ...start } = setup;
	const byShape = new Map([...parts.bySize].map(([size, { chain }]) => [shapeOf(chain), { size, chain }]));
	const open = new Map<string, TrainingSession>();
	const at = async (shape: string): Promise<TrainingSession> => {
		const sized = byShape.get(shape);
		const known = sized ? open.get(shape) : base;
		if (!sized || known) return known!;
		say({ kind: 'note', text: `compiling for images of ${sized.size}` });
		const session = await openSession(sized.chain, config, { ...start, cuts: base.plan.cuts });
		open.set(shape, session);
		return session;
	};
	return {
		...base,
		async step(feeds, hyper, ...how) {
			const session = await at(sizeOfFeeds(feeds));
			return session.step(feeds, hyper, ...how);
		},
		async close() {
			for (const session of open.values()) await session.close();
			await base.close();
		},
	};
}
