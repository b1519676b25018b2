/** @file Which frozen parts a run has, and the feeds of a step through them. */
import { DiffusionPipeError } from '../core/errors.ts';
import { randomStream } from '../core/random.ts';
import type { Tensor } from '../core/tensor.ts';
import { controlImageInput } from '../models/control-fit.ts';
import { type DiskCacheOptions, defaultCacheDir } from './cache/disk-cache.ts';
import type { TrainConfig } from './config.ts';
import { sizeKey } from './data/buckets.ts';
import { keptBatches } from './data/kept-batches.ts';
import type { Loader } from './data/loader.ts';
import type { DataSetInfo } from './data/types.ts';
import type { TrainEvent } from './events.ts';
import type { FeedMaker } from './feeds.ts';
import type { HostBatch } from './filled/parts.ts';
import { type FrozenOptions, type FrozenText, type FrozenVae, openFrozenText, openFrozenVae, packagedPath } from './frozen.ts';
import { deviceCount } from './plan.ts';

/** A run's frozen parts; a model of labelled pixels has none. */
export interface FrozenParts {
	readonly vae: FrozenVae | undefined;
	readonly text: FrozenText | undefined;
}

/** Opens what `[vae]` and `[text_encoder]` name. Throws config and input errors before any work. */
export async function openFrozenParts(config: TrainConfig, data: DataSetInfo, say: (event: TrainEvent) => void): Promise<FrozenParts> {
	const { vae: v, seed } = config;
	let vae: FrozenVae | undefined;
	try {
		if (v.path !== '') {
			say({ kind: 'note', text: `opening autoencoder ${v.path}` });
			vae = await openFrozenVae(await packagedPath(v.path, 'vae.path'), data, seed, frozenOptions(config, say));
		}
		return { vae, text: await openTextEncoder(config, say) };
	} catch (error) {
		await vae?.close();
		throw error;
	}
}

/** Opens what `[text_encoder]` names; undefined where it names nothing. Throws config and input errors. */
export async function openTextEncoder(config: TrainConfig, say: (event: TrainEvent) => void): Promise<FrozenText | undefined> {
	const { text_encoder: t } = config;
	if (t.path === '') return undefined;
	if (t.tokenizer === '') {
		throw new DiffusionPipeError('config', 'is missing', { place: 'text_encoder.tokenizer', expected: 'the folder of its tokenizer' });
	}
	say({ kind: 'note', text: `opening text encoder ${t.path}` });
	const folder = await packagedPath(t.path, 'text_encoder.path');
	return openFrozenText(folder, await packagedPath(t.tokenizer, 'text_encoder.tokenizer'), frozenOptions(config, say));
}

/** How a run's frozen parts are run. */
export function frozenOptions(config: TrainConfig, say: (event: TrainEvent) => void): FrozenOptions {
	const devices = deviceCount(config);
	return {
		devices,
		batch: Math.max(1, Math.min(32, Math.ceil(config.train.batch_size / devices))),
		threads: config.parallel.threads_per_device,
		disk: config.frozen.cache === 'disk' ? cacheOptions(config, say) : undefined,
	};
}

function cacheOptions({ frozen }: TrainConfig, say: (event: TrainEvent) => void): DiskCacheOptions {
	return {
		dir: frozen.cache_dir === '' ? defaultCacheDir() : frozen.cache_dir,
		dtype: frozen.cache_dtype,
		onProblem: (text) => say({ kind: 'note', text }),
	};
}

/** Ends the threads of what was opened. */
export async function closeFrozenParts({ vae, text }: FrozenParts): Promise<void> {
	await vae?.close();
	await text?.close();
}

/** What a step is fed, and in a filled run what its frozen parts are fed within the step before. */
export interface StepFeeds {
	readonly feeds: (step: number) => Promise<Record<string, Tensor>>;
	readonly ahead?: (step: number) => Promise<Record<string, Tensor>>;
}

/** The texts of a step's pictures, some of them dropped: a function of (seed, step, picture). */
export function captionDropper({
	seed,
	objective,
}: Pick<TrainConfig, 'seed' | 'objective'>): (step: number, captions: readonly string[]) => string[] {
	const dropped = randomStream(seed, 'train.caption_dropout');
	return (step, captions) => captions.map((caption, i) => (dropped.uniform(step, i) < objective.caption_dropout ? '' : caption));
}

/** Loads a step's batch, runs the frozen parts on it, and makes its feeds. After an epoch of a run that keeps rows on disk it says what that took. */
export function stepFeeds(
	config: TrainConfig,
	loader: Loader,
	{ vae, text }: FrozenParts,
	make: FeedMaker,
	say: (event: TrainEvent) => void,
	/** Parts for images of other sizes than the first, by `sizeKey`. */
	bySize: ReadonlyMap<string, { readonly vae: FrozenVae | undefined; readonly make: FeedMaker }> = new Map(),
): StepFeeds {
	const drop = captionDropper(config);
	const epoch = Math.ceil(loader.info.size / config.train.batch_size);
	let [steps, ms] = [0, 0];
	const tell = (since: number) => {
		ms += performance.now() - since;
		if (++steps !== epoch) return;
		for (const [name, part] of Object.entries({ vae, text_encoder: text })) {
			const counts = part?.cached();
			if (!counts) continue;
			const { read, computed, damaged } = counts;
			say({ kind: 'note', text: `${name}: ${read} rows from disk, ${computed} computed${damaged > 0 ? `, ${damaged} damaged` : ''}` });
		}
		if (vae?.cached() || text?.cached()) say({ kind: 'note', text: `frozen parts took ${(ms / 1000).toFixed(1)} s of the first epoch` });
	};
	return {
		feeds: async (step) => {
			const { images, labels, captions, names, mirrored, height, width, conditioning: pictures } = await loader.batchAt(step);
			const own = bySize.get(sizeKey({ height, width })) ?? { vae, make };
			const keys = names.map((name, i) => (mirrored[i] ? `${name} mirrored` : name));
			const since = performance.now();
			const samples = own.vae ? await own.vae.encode(images, keys, step) : images;
			const texts = text ? await text.encode(drop(step, captions)) : {};
			tell(since);
			return own.make({ step, samples, labels, conditioning: { ...texts, ...pictureRows(pictures) } });
		},
	};
}

/** Conditioning pictures under the model's name for them. */
export function pictureRows(pictures: Float32Array | undefined): Record<string, Float32Array> {
	return pictures ? { [controlImageInput]: pictures } : {};
}

/** What makes the feeds of steps on images of one size. */
export interface SizedFeeds {
	readonly make: FeedMaker;
	/** Makes those of the frozen parts. */
	readonly give: (step: number, batch: HostBatch) => Record<string, Tensor>;
	/** By frozen part, feeds of the step itself that the part takes a step ahead, too. */
	readonly early?: Readonly<Record<string, readonly string[]>>;
}

/** The feeds of a filled run. */
export interface FilledFeeds extends Required<StepFeeds> {
	/** The size, by `sizeKey`, of the images that feeds made by `ahead` are for. */
	readonly sizeOf: (ahead: object) => string;
}

/** The feeds of a filled run: pictures and token ids go to the frozen parts a step ahead, the rest to the step itself. `bySize`: by `sizeKey`. */
export function filledFeeds(config: TrainConfig, loader: Loader, vae: boolean, bySize: ReadonlyMap<string, SizedFeeds>): FilledFeeds {
	const drop = captionDropper(config);
	const batchAt = keptBatches(loader);
	const sizes = new WeakMap<object, string>();
	const made = new Map<number, ReturnType<StepFeeds['feeds']>>();
	/** Made once: what a frozen part reads of it ahead must not be written again meanwhile. */
	const feeds = (step: number) => {
		let known = made.get(step);
		if (!known) {
			known = batchAt(step).then(({ images, labels, height, width, conditioning }) => {
				const samples = vae ? {} : { samples: images };
				return bySize.get(sizeKey({ height, width }))!.make({ step, labels, conditioning: pictureRows(conditioning), ...samples });
			});
			known.catch(() => {});
			made.set(step, known);
			made.delete(step - 2);
		}
		return known;
	};
	return {
		sizeOf: (ahead) => sizes.get(ahead)!,
		ahead: async (step) => {
			const { images, captions, height, width } = await batchAt(step);
			const size = sizeKey({ height, width });
			const { give, early = {} } = bySize.get(size)!;
			const given = give(step, { images, captions: drop(step, captions) });
			for (const [part, inputs] of Object.entries(early)) {
				const own = await feeds(step);
				for (const input of inputs) given[`${part}.${input}`] = own[input]!;
			}
			sizes.set(given, size);
			return given;
		},
		feeds,
	};
}
