/** @file The config of a cascade: that of a training run for its base, and a table `[super_resolution]` for what differs in the model that enlarges. */
import * as v from 'valibot';
import { DiffusionPipeError } from '../../core/errors.ts';
import { readTrainConfig, type TrainConfig } from '../config.ts';
import { parseOptions } from '../data/options.ts';

/** The two backbones of a cascade, in the order of its stages. */
export const backboneNames = ['base', 'super_resolution'] as const;
/** One of them. */
export type BackboneName = (typeof backboneNames)[number];
/** Something for each of the two backbones. */
export type PerBackbone<T> = Readonly<Record<BackboneName, T>>;

/** `of` for each of the two backbones. */
export function perBackbone<T>(of: (name: BackboneName) => T): PerBackbone<T> {
	return { base: of('base'), super_resolution: of('super_resolution') };
}

/** A complete config of a cascade. */
export interface CascadeConfig {
	/** Learns the data at the size of its model's samples. Its `output_dir`, `train`, `parallel`, `data`, `sample` and `log` are those of the cascade. */
	readonly base: TrainConfig;
	/** Learns the data at its own size from the small image. Its seed is one more than the base's, so that their numbers differ. */
	readonly super_resolution: TrainConfig;
	/** Each small image gets noise of a deviation between 0 and this before it is enlarged, since what the base draws is not perfect either. */
	readonly condition_noise: number;
}

const table = v.record(v.string(), v.unknown());
const superResolution = v.strictObject({
	model: table,
	/** As in the base where absent, each. */
	scheduler: v.optional(table),
	objective: v.optional(table),
	optimizer: v.optional(table),
	/** First layers of its stages but the first, under `partition_method = "manual"`. */
	partition_split: v.optional(v.array(v.number())),
	condition_noise: v.optional(v.pipe(v.number(), v.minValue(0)), 0.1),
});

/** True when a parsed TOML document is the config of a cascade. */
export function isCascade(raw: unknown): raw is { readonly super_resolution: unknown } {
	return typeof raw === 'object' && raw !== null && 'super_resolution' in raw;
}

/**
 * Checks a parsed TOML document with a table `[super_resolution]`, as `[super_resolution.model]`, beside those of a training run, and fills defaults in.
 * @throws DiffusionPipeError of kind 'config' naming the key, what was expected and found
 */
export function readCascadeConfig(raw: unknown): CascadeConfig {
	if (!isCascade(raw)) {
		throw new DiffusionPipeError('config', 'is no cascade', {
			place: 'super_resolution',
			expected: 'a table [super_resolution.model] beside [model]',
			found: 'none',
		});
	}
	const { super_resolution, ...rest } = raw as Readonly<Record<string, unknown>>;
	const { condition_noise, partition_split, ...own } = parseOptions(superResolution, super_resolution, 'super_resolution');
	const shared = { pipeline_schedule: 'bidirectional', ...(rest.parallel as Readonly<Record<string, unknown>> | undefined) };
	const base = readTrainConfig({ ...rest, parallel: shared });
	if (base.parallel.pipeline_schedule !== 'bidirectional') {
		throw new DiffusionPipeError('config', 'is not for cascades', {
			place: 'parallel.pipeline_schedule',
			expected: 'bidirectional',
			found: base.parallel.pipeline_schedule,
		});
	}
	const parallel = {
		...shared,
		...(partition_split ? { partition_split } : {}),
	};
	const larger = inTable(() => readTrainConfig({ ...rest, ...own, parallel, seed: base.seed + 1 }));
	const known: readonly [string, boolean][] = [
		['vae.path', base.vae.path !== ''],
		['lora.rank', base.lora.rank > 0],
		['parallel.replan_after', base.parallel.replan_after > 0],
		['data.buckets', base.data.buckets !== undefined],
		['parallel.placement', base.parallel.placement !== 'linear'],
		['objective.self_conditioning', base.objective.self_conditioning > 0 || larger.objective.self_conditioning > 0],
		['model.pretrained', base.model.pretrained !== undefined || larger.model.pretrained !== undefined],
	];
	const unfit = known.find(([, isGiven]) => isGiven);
	if (unfit) {
		throw new DiffusionPipeError('config', 'is not for cascades', {
			place: unfit[0],
			expected: 'two models of pixels, trained whole and from nothing, in stages one after another',
		});
	}
	checkDropout(base, larger, own.objective);
	return { base, super_resolution: larger, condition_noise };
}

/** A caption is encoded once for both models, so it is dropped for both or for neither. */
function checkDropout(base: TrainConfig, larger: TrainConfig, own: Readonly<Record<string, unknown>> | undefined): void {
	const [want, found] = [base.objective.caption_dropout, larger.objective.caption_dropout];
	if (own?.caption_dropout === undefined || want === found || base.text_encoder.path === '') return;
	throw new DiffusionPipeError('config', 'captions are dropped for both models at once', {
		place: 'super_resolution.objective.caption_dropout',
		expected: `${want}, as objective.caption_dropout`,
		found: String(found),
	});
}

/** Says that what is wrong is wrong in the table of the model that enlarges. */
function inTable<T>(read: () => T): T {
	try {
		return read();
	} catch (error) {
		if (!(error instanceof DiffusionPipeError)) throw error;
		throw new DiffusionPipeError(error.kind, error.what, { ...error.parts, place: `super_resolution.${error.parts.place}`, cause: error });
	}
}
