/** @file The training config: every key, its default and its meaning. TOML tables map to the objects here one to one. */
import * as v from 'valibot';
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { parseOptions } from './data/options.ts';
import { replicasOf, stageCount } from './layout.ts';

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const wholeNumber = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));
const notNegative = v.pipe(v.number(), v.finite(), v.minValue(0));

/** `[objective]`: what the model learns. */
const objective = v.strictObject({
	/** Share of labels replaced by "no class", for classifier-free guidance. */
	label_dropout: v.optional(share, 0.1),
	/** `min_snr` weighs samples by min(SNR, snr_gamma); `sigma_sqrt` and `cosmap` are for flows. */
	loss_weighting: v.optional(v.picklist(['uniform', 'min_snr', 'sigma_sqrt', 'cosmap']), 'uniform'),
	snr_gamma: v.optional(positive, 5),
	/** Density of the noise levels flows are trained on. */
	weighting_scheme: v.optional(v.picklist(['uniform', 'logit_normal', 'mode']), 'uniform'),
	logit_mean: v.optional(v.number(), 0),
	logit_std: v.optional(positive, 1),
	mode_scale: v.optional(v.number(), 1.29),
	/** Adds this much of one normal number per image and channel to the noise. */
	noise_offset: v.optional(notNegative, 0),
	/** Share of captions replaced by the empty text, for classifier-free guidance. */
	caption_dropout: v.optional(share, 0.1),
	/**
	 * Share of the steps in which the model is given its own estimate of the clean sample, made in a sweep ahead and without gradients, beside the noised
	 * one; in the others it is given zeros. Above 0 the model takes twice the channels of `model.in_channels`. 0.5 as published.
	 */
	self_conditioning: v.optional(share, 0),
});

/** `[vae]`: a frozen image autoencoder; the model then learns its latents. */
const vae = v.strictObject({
	/** Folder of an AutoencoderKL, or one of this package such as `assets/emoji-vae`; empty: none, the model learns pixels. */
	path: v.optional(v.string(), ''),
});

/** `[text_encoder]`: a frozen text encoder for models with `encoder_hidden_states`. */
const text_encoder = v.strictObject({
	path: v.optional(v.string(), ''),
	/** Folder of its tokenizer. */
	tokenizer: v.optional(v.string(), ''),
});

/** `[frozen]`: when the autoencoder and the text encoder run. Results do not depend on it but for rounding. */
const frozen = v.strictObject({
	/**
	 * `fill`: within the training program, in the bubbles of the step before; `inline`: beside the step, on threads of their own; `disk`: like `inline`, but
	 * what was computed is kept on disk, by what determines it, for later epochs and runs.
	 */
	cache: v.optional(v.picklist(['inline', 'fill', 'disk']), 'inline'),
	/** Folder for `disk`, which runs may share, also at the same time; empty: `diffusionpipe/frozen` below `XDG_CACHE_HOME` or `~/.cache`. */
	cache_dir: v.optional(v.string(), ''),
	/** What `disk` keeps; float16 takes half the space and rounds what is trained on. */
	cache_dtype: v.optional(v.picklist(['float32', 'float16']), 'float32'),
});

/** `[eval]`: the loss on examples that are not trained on, at fixed noise levels and with fixed noise. */
const evaluation = v.strictObject({
	/** 0: never, and no example is set aside. */
	every_steps: v.optional(wholeNumber, 0),
	/** Measures the weights a run starts with, too. */
	before_first_step: v.optional(v.boolean(), true),
	/** Examples set aside by their names: below 1 their share, from 1 on their number. `split`: those that the data set itself holds out. */
	holdout: v.optional(v.union([positive, v.literal('split')]), 0.1),
	/** Shares of the noise levels trained on that lie below those measured. */
	quantiles: v.optional(
		v.pipe(v.array(v.pipe(v.number(), v.gtValue(0), v.ltValue(1))), v.nonEmpty()),
		[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
	),
	/** Measures the moving average of the weights in place of the weights. */
	ema: v.optional(v.boolean(), false),
	/** Samples computed at once on a device. */
	batch_size: v.optional(count, 8),
});

/** `[lora]`: trains low-rank matrices beside a model's own weights, which stay as they are; needs `model.pretrained`. */
const lora = v.strictObject({
	/** Rank of the matrices; 0: none, the whole model is trained. */
	rank: v.optional(wholeNumber, 0),
	/** What they give counts alpha / rank. Default: the rank, so that it counts once. */
	alpha: v.optional(positive),
	/**
	 * Projections to adapt: names, each for all whose path is it or ends in a dot and it, as `attn1.to_q` or `ff.net.0.proj`; or one regular
	 * expression for whole paths, as `.*attentions.*(to_q|to_v)`. Linear layers and convolutions of any model.
	 */
	target_modules: v.optional(v.union([v.pipe(v.array(v.string()), v.nonEmpty()), v.string()]), ['to_q', 'to_k', 'to_v', 'to_out.0']),
	/** Start of the first matrix: `kaiming_uniform` as PEFT has it, `gaussian` as diffusers' scripts. The second starts at zero. */
	init_lora_weights: v.optional(v.picklist(['kaiming_uniform', 'gaussian']), 'kaiming_uniform'),
});

/** `[train]`. */
const train = v.strictObject({
	max_steps: count,
	/** Images per step over all devices and micro-batches. */
	batch_size: count,
	/** Micro-batches a step is cut into on each pipeline; their gradients add up. */
	gradient_accumulation_steps: v.optional(count, 1),
	/** Largest global gradient norm; 0: no clipping. */
	gradient_clipping: v.optional(notNegative, 1),
	/** Decay of the moving average of the weights; 0: none is kept. */
	ema_decay: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(1)), 0.9999),
	/** Mirror half of the images left to right. */
	flip: v.optional(v.boolean(), false),
});

/** `[optimizer]`. */
const optimizer = v.strictObject({
	type: v.optional(v.picklist(['adamw']), 'adamw'),
	lr: v.optional(positive, 1e-4),
	betas: v.optional(
		v.tuple([v.pipe(v.number(), v.minValue(0), v.ltValue(1)), v.pipe(v.number(), v.minValue(0), v.ltValue(1))]),
		[0.9, 0.999],
	),
	eps: v.optional(positive, 1e-8),
	weight_decay: v.optional(notNegative, 0.01),
	lr_scheduler: v.optional(v.picklist(['constant', 'cosine']), 'constant'),
	warmup_steps: v.optional(wholeNumber, 0),
	/** Learning rate the cosine ends at, as a share of `lr`. */
	min_lr_ratio: v.optional(share, 0),
});

/** `[parallel]`: how the work is laid over devices. Results do not depend on it but for rounding. */
const parallel = v.strictObject({
	/** Ranks of a pipeline. */
	pipeline_stages: v.optional(count, 1),
	/** Copies of the whole pipeline. Devices in use: data_parallel times those of a pipeline, which are pipeline_stages or the sum of replicas. */
	data_parallel: v.optional(count, 1),
	/** `gpipe`, `1f1b`, `interleaved-1f1b` or `zero-bubble`. */
	pipeline_schedule: v.optional(v.string(), '1f1b'),
	/** Stages on each rank under `interleaved-1f1b`; 2 unless given. */
	virtual_pipeline_model_parallel_size: v.optional(v.pipe(count, v.minValue(2))),
	/** `folded`: two stages on each rank, the first and the last of the chain on the first, so that a U-Net's skips stay on their rank. */
	placement: v.optional(v.picklist(['linear', 'folded']), 'linear'),
	/** Devices of each rank, which share its micro-batches; one each unless given. */
	replicas: v.optional(v.array(count)),
	/** `time`: cut by measured layer times; `manual`: by `partition_split`. */
	partition_method: v.optional(v.picklist(['time', 'manual']), 'time'),
	/** First layer of each stage but the first; there are pipeline_stages of them, or as often more as each rank has stages. */
	partition_split: v.optional(v.array(count)),
	/**
	 * `cheap` recomputes norms and activations in the backward pass to save memory, `full` the whole forward of a stage from its inputs; `auto` is the first of
	 * `views`, `cheap` and `full` with which the run fits in `memory_bytes`.
	 */
	activation_checkpointing: v.optional(v.picklist(['auto', 'views', 'cheap', 'full']), 'views'),
	/** Bytes each device may hold; 0: no limit. */
	memory_bytes: v.optional(notNegative, 0),
	threads_per_device: v.optional(count, 1),
	/** Plans again after so many steps, from what they measured, and moves to the new plan where that is faster; 0: never. */
	replan_after: v.optional(wholeNumber, 0),
	/** Share of a step's time that the new plan must promise to win. */
	replan_gain: v.optional(v.number(), 0.02),
});

/** `[checkpoint]`. */
const checkpoint = v.strictObject({
	/** 0: only at the end. */
	every_steps: v.optional(wholeNumber, 1000),
	/** Older ones are removed; 0 keeps all. */
	keep_last: v.optional(wholeNumber, 2),
});

/** `[sample]`: pictures drawn during training. */
const sample = v.strictObject({
	/** 0: only at the end. */
	every_steps: v.optional(wholeNumber, 0),
	steps: v.optional(count, 50),
	guidance_scale: v.optional(notNegative, 1),
	/** Class labels to draw; empty: all classes, up to 100. */
	labels: v.optional(v.array(wholeNumber), []),
	/** Captions to draw, for models with a text encoder. */
	prompts: v.optional(v.array(v.string()), []),
	/** Files of conditioning pictures, one for each prompt, when a ControlNet is trained; empty: pictures and captions of the data. */
	conditioning_images: v.optional(v.array(v.string()), []),
	/** Pictures per label or prompt. */
	per_label: v.optional(count, 4),
	seed: v.optional(wholeNumber, 0),
	/** Draws nothing at all when false. */
	enabled: v.optional(v.boolean(), true),
});

/** `[log]`. */
const log = v.strictObject({
	every_steps: v.optional(count, 1),
	tensorboard: v.optional(v.boolean(), true),
	/** Writes a measured timeline of one step (Chrome trace) every so many steps; 0: never. */
	trace_every_steps: v.optional(wholeNumber, 0),
});

const tables = {
	objective,
	vae,
	text_encoder,
	frozen,
	lora,
	eval: evaluation,
	train,
	optimizer,
	parallel,
	checkpoint,
	sample,
	log,
} as const;

type Tables = { readonly [K in keyof typeof tables]: v.InferOutput<(typeof tables)[K]> };

/** A complete training config. */
export interface TrainConfig extends Tables {
	/** Folder of the run. */
	readonly output_dir: string;
	readonly seed: number;
	/**
	 * `type` is the model's class name; `pretrained` a model folder, a pipeline, a run or `owner/name` of the hub to start from, whole or by `[lora]`; the
	 * rest is its `config.json`, of which `pretrained` has every key not given here. For the type `ControlNetModel`, `pretrained` is the pipeline or U-Net that
	 * it controls, and `controlnet` a ControlNet's folder, a run or `owner/name` to start from in place of the U-Net's encoder.
	 */
	readonly model: Readonly<Record<string, unknown>> & { readonly type: string };
	/** `type` is the scheduler's class name; the rest is its `scheduler_config.json`. */
	readonly scheduler: Readonly<Record<string, unknown>> & { readonly type: string };
	/** `type` is the data set; the rest its options. */
	readonly data: Readonly<Record<string, unknown>> & { readonly type: string };
}

/** Checks a parsed TOML document and fills defaults in. Throws a config error naming the key, what was expected and found, and the nearest name. */
export function readTrainConfig(raw: unknown): TrainConfig {
	if (typeof raw !== 'object' || raw === null || Array.isArray(raw))
		throw new DiffusionPipeError('config', 'is not a table', { place: 'config' });
	const given = raw as Record<string, unknown>;
	const known = ['output_dir', 'seed', 'model', 'scheduler', 'data', ...Object.keys(tables)];
	for (const key of Object.keys(given)) {
		if (known.includes(key)) continue;
		const near = nearestName(key, known);
		throw new DiffusionPipeError('config', `there is no table or key ${key}`, {
			place: key,
			expected: known.join(', '),
			...(near ? { hint: `did you mean ${near}?` } : {}),
		});
	}
	const top = parseOptions(
		v.strictObject({ output_dir: v.optional(v.pipe(v.string(), v.nonEmpty()), 'runs/run'), seed: v.optional(wholeNumber, 0) }),
		{
			...(given.output_dir === undefined ? {} : { output_dir: given.output_dir }),
			...(given.seed === undefined ? {} : { seed: given.seed }),
		},
		'config',
	);
	const typed = (name: 'model' | 'scheduler' | 'data') => {
		const table = given[name];
		const type = typeof table === 'object' && table !== null ? (table as Record<string, unknown>).type : undefined;
		if (typeof type !== 'string') {
			throw new DiffusionPipeError('config', 'has no type', {
				place: name,
				expected: `a table [${name}] with type = "..."`,
				found: JSON.stringify(table) ?? 'nothing',
			});
		}
		return table as Record<string, unknown> & { type: string };
	};
	const parsed = Object.fromEntries(
		Object.entries(tables).map(([name, schema]) => [name, parseOptions(schema as typeof train, given[name] ?? {}, name)]),
	) as unknown as Tables;
	const config: TrainConfig = { ...top, model: typed('model'), scheduler: typed('scheduler'), data: typed('data'), ...parsed };
	checkBatch(config);
	checkEvaluation(config);
	return config;
}

/** The tables `train`, `optimizer` and `parallel` alone, checked likewise and with defaults: for training that is no diffusion. */
export function readSessionConfig(raw: {
	readonly train: unknown;
	readonly optimizer?: unknown;
	readonly parallel?: unknown;
}): Pick<TrainConfig, 'train' | 'optimizer' | 'parallel'> {
	const config = {
		train: parseOptions(train, raw.train, 'train'),
		optimizer: parseOptions(optimizer, raw.optimizer ?? {}, 'optimizer'),
		parallel: parseOptions(parallel, raw.parallel ?? {}, 'parallel'),
	};
	checkBatch(config);
	return config;
}

/** What cannot be measured is refused before anything is trained. */
function checkEvaluation({ eval: e, train: t }: Pick<TrainConfig, 'eval' | 'train'>): void {
	if (typeof e.holdout === 'number' && e.holdout > 1 && !Number.isInteger(e.holdout)) {
		throw new DiffusionPipeError('config', 'has a wrong value', {
			place: 'eval.holdout',
			expected: 'a share below 1, a whole number, or "split"',
			found: String(e.holdout),
		});
	}
	if (e.every_steps > 0 && e.ema && t.ema_decay === 0)
		throw new DiffusionPipeError('config', 'there is no moving average', { place: 'eval.ema', expected: 'train.ema_decay above 0' });
}

/** The batch must part evenly over replicas and micro-batches. */
function checkBatch({ train: t, parallel: p }: Pick<TrainConfig, 'train' | 'parallel'>): void {
	const parts = p.data_parallel * t.gradient_accumulation_steps;
	if (t.batch_size % parts !== 0) {
		throw new DiffusionPipeError('config', 'does not part evenly', {
			place: 'train.batch_size',
			expected: `a multiple of data_parallel * gradient_accumulation_steps = ${parts}`,
			found: String(t.batch_size),
			hint: `use ${Math.ceil(t.batch_size / parts) * parts}`,
		});
	}
	const cuts = stageCount(p) - 1;
	if (p.partition_method === 'manual' && p.partition_split?.length !== cuts) {
		throw new DiffusionPipeError('config', 'does not fit the number of stages', {
			place: 'parallel.partition_split',
			expected: `${cuts} layer numbers`,
			found: String(p.partition_split?.length ?? 0),
		});
	}
	if (p.replicas && p.replicas.length !== p.pipeline_stages) {
		throw new DiffusionPipeError('config', 'does not fit the number of ranks', {
			place: 'parallel.replicas',
			expected: `${p.pipeline_stages} numbers, one per rank`,
			found: String(p.replicas.length),
		});
	}
	const most = Math.max(...replicasOf(p));
	if (most > t.batch_size / parts) {
		throw new DiffusionPipeError('config', 'a rank has more devices than a micro-batch has samples', {
			place: 'parallel.replicas',
			expected: `at most ${t.batch_size / parts}`,
			found: String(most),
		});
	}
}

/** Names of the config's tables and their keys, for `--set` and documentation. */
export function configKeys(): Readonly<Record<string, readonly string[]>> {
	return Object.fromEntries(Object.entries(tables).map(([name, schema]) => [name, Object.keys(schema.entries)]));
}
