/** @file Complete pipeline folders as diffusers saves them, of models with a few thousand random weights. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Tensor } from '../../src/core/tensor.ts';
import { writeJson } from '../../src/io/json-file.ts';
import { readModelFolder, writeModelFolder, writePipelineIndex } from '../../src/io/model-folder.ts';
import { autoencoderKLDecoderChain, autoencoderKLEncoderChain, readAutoencoderKLConfig } from '../../src/models/autoencoder-kl.ts';
import { controlNetChain, readControlNetConfig } from '../../src/models/controlnet.ts';
import { createEncoder } from '../../src/models/encoders.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { type Chain, traceChain } from '../../src/nn/chain.ts';
import { initialValues } from '../../src/train/parameters.ts';

type Config = Readonly<Record<string, unknown>>;

/** Weights of the chains of one model: their own first values, but none zero or very small, so that every input shows in the output. */
function weightsOf(
	chains: readonly Chain[],
	seed: number,
): { name: string; dtype: 'float32'; shape: readonly number[]; data: Float32Array }[] {
	const parameters = new Map(chains.flatMap((chain) => [...traceChain(chain, 1).parameters]));
	return [...parameters.values()].map((p) => {
		const weak = p.init.kind === 'zeros' || (p.init.kind === 'normal' && p.init.std < 0.1);
		const init = weak ? ({ kind: 'normal', std: 0.1 } as const) : p.init;
		return { name: p.name, dtype: 'float32', shape: p.shape, data: initialValues({ ...p, init }, seed) };
	});
}

const letters = [...'abcdefghijklmnopqrstuvwxyz0123456789,.'];
/** CLIP's vocabulary of single characters, without merges. */
const clipPieces = [...letters, ...letters.map((c) => `${c}</w>`), '<|startoftext|>', '<|endoftext|>'];
export const clipLength = 12;

async function writeClipTokenizer(folder: string): Promise<void> {
	await mkdir(folder, { recursive: true });
	await writeJson(join(folder, 'vocab.json'), Object.fromEntries(clipPieces.map((p, id) => [p, id])));
	await writeFile(join(folder, 'merges.txt'), '#version: 0.2\n');
	await writeJson(join(folder, 'tokenizer_config.json'), { tokenizer_class: 'CLIPTokenizer', model_max_length: clipLength });
}

const t5Pieces = ['<pad>', '</s>', '<unk>', '▁', ...letters];

async function writeT5Tokenizer(folder: string): Promise<void> {
	const special = (id: number) => ({
		id,
		content: t5Pieces[id],
		single_word: false,
		lstrip: false,
		rstrip: false,
		normalized: false,
		special: true,
	});
	const single = [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }];
	await mkdir(folder, { recursive: true });
	await writeJson(join(folder, 'tokenizer.json'), {
		version: '1.0',
		added_tokens: [0, 1, 2].map(special),
		normalizer: null,
		pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
		post_processor: {
			type: 'TemplateProcessing',
			single,
			pair: single,
			special_tokens: { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } },
		},
		decoder: { type: 'Metaspace', replacement: '▁' },
		model: { type: 'Unigram', unk_id: 2, vocab: t5Pieces.map((p, i) => [p, i < 3 ? 0 : -2]) },
	});
	await writeJson(join(folder, 'tokenizer_config.json'), { tokenizer_class: 'T5Tokenizer', model_max_length: 512 });
}

const clipConfig = (hidden: number, projection: number): Config => ({
	vocab_size: clipPieces.length,
	hidden_size: hidden,
	intermediate_size: 2 * hidden,
	projection_dim: projection,
	num_hidden_layers: 2,
	num_attention_heads: 2,
	max_position_embeddings: clipLength,
	eos_token_id: clipPieces.length - 1,
	// Large enough for two texts to differ visibly after two blocks.
	initializer_factor: 5,
});

const t5Config = (width: number): Config => ({
	vocab_size: t5Pieces.length,
	d_model: width,
	d_kv: 4,
	d_ff: 2 * width,
	num_layers: 2,
	num_heads: 2,
	feed_forward_proj: 'gated-gelu',
});

const unetConfig = (context: number): Config => ({
	_class_name: 'UNet2DConditionModel',
	sample_size: 8,
	block_out_channels: [16, 32],
	down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
	up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
	layers_per_block: 1,
	cross_attention_dim: context,
	attention_head_dim: 2,
	norm_num_groups: 8,
});

const vaeConfig: Config = {
	_class_name: 'AutoencoderKL',
	block_out_channels: [16, 32],
	down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
	up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
	norm_num_groups: 8,
	sample_size: 16,
};

const noiseScheduler = (className: string): Config => ({
	_class_name: className,
	beta_start: 0.00085,
	beta_end: 0.012,
	beta_schedule: 'scaled_linear',
	prediction_type: 'epsilon',
	steps_offset: 1,
	clip_sample: false,
});
const flowScheduler: Config = { _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 3 };

/** A text encoder with its tokenizer: class and config. */
type Encoder = readonly [className: 'CLIPTextModel' | 'CLIPTextModelWithProjection' | 'T5EncoderModel', config: Config];

interface Recipe {
	readonly className: string;
	readonly scheduler: Config;
	/** In the order of their suffixes: '', '_2', '_3'; null for one that is left out. */
	readonly encoders: readonly (Encoder | null)[];
	readonly denoiser: Config;
	readonly vae: Config;
	readonly options?: Config;
}

const sd: Recipe = {
	className: 'StableDiffusionPipeline',
	scheduler: noiseScheduler('DDIMScheduler'),
	encoders: [['CLIPTextModel', clipConfig(24, 24)]],
	denoiser: unetConfig(24),
	vae: vaeConfig,
};
const pixartDenoiser: Config = {
	_class_name: 'PixArtTransformer2DModel',
	num_attention_heads: 2,
	attention_head_dim: 12,
	num_layers: 2,
	sample_size: 8,
	cross_attention_dim: 24,
	caption_channels: 20,
	use_additional_conditions: false,
};
const sd3: Recipe = {
	className: 'StableDiffusion3Pipeline',
	scheduler: flowScheduler,
	encoders: [
		['CLIPTextModelWithProjection', clipConfig(16, 10)],
		['CLIPTextModelWithProjection', clipConfig(12, 14)],
		['T5EncoderModel', t5Config(32)],
	],
	denoiser: {
		_class_name: 'SD3Transformer2DModel',
		sample_size: 8,
		in_channels: 4,
		out_channels: 4,
		num_layers: 2,
		attention_head_dim: 8,
		num_attention_heads: 3,
		joint_attention_dim: 32,
		caption_projection_dim: 24,
		pooled_projection_dim: 24,
		pos_embed_max_size: 12,
	},
	vae: { ...vaeConfig, scaling_factor: 1.5305, shift_factor: 0.0609, use_quant_conv: false, use_post_quant_conv: false },
};

/** What the folders hold, by the name a test knows them under. */
export const recipes = {
	sd,
	sdPndm: { ...sd, scheduler: { ...noiseScheduler('PNDMScheduler'), skip_prk_steps: true, set_alpha_to_one: false } },
	sdAncestral: { ...sd, scheduler: { ...noiseScheduler('EulerAncestralDiscreteScheduler'), timestep_spacing: 'trailing' } },
	sdxl: {
		...sd,
		className: 'StableDiffusionXLPipeline',
		scheduler: { ...noiseScheduler('EulerDiscreteScheduler'), timestep_spacing: 'leading' },
		encoders: [
			['CLIPTextModel', clipConfig(16, 16)],
			['CLIPTextModelWithProjection', clipConfig(12, 20)],
		],
		denoiser: {
			...unetConfig(28),
			addition_embed_type: 'text_time',
			addition_time_embed_dim: 8,
			projection_class_embeddings_input_dim: 6 * 8 + 20,
			use_linear_projection: true,
		},
		vae: { ...vaeConfig, scaling_factor: 0.13025 },
		options: { force_zeros_for_empty_prompt: true },
	},
	pixart: {
		...sd,
		className: 'PixArtAlphaPipeline',
		scheduler: noiseScheduler('DPMSolverMultistepScheduler'),
		encoders: [['T5EncoderModel', t5Config(20)]],
		denoiser: pixartDenoiser,
	},
	pixartSized: {
		...sd,
		className: 'PixArtSigmaPipeline',
		scheduler: noiseScheduler('DPMSolverMultistepScheduler'),
		encoders: [['T5EncoderModel', t5Config(20)]],
		denoiser: { ...pixartDenoiser, use_additional_conditions: true },
	},
	sd3,
	sd3WithoutT5: { ...sd3, encoders: [sd3.encoders[0]!, sd3.encoders[1]!, null] },
	flux: {
		className: 'FluxPipeline',
		scheduler: { _class_name: 'FlowMatchEulerDiscreteScheduler', use_dynamic_shifting: true, base_shift: 0.5, max_shift: 1.15 },
		encoders: [
			['CLIPTextModel', clipConfig(24, 24)],
			['T5EncoderModel', t5Config(20)],
		],
		denoiser: {
			_class_name: 'FluxTransformer2DModel',
			in_channels: 16,
			num_layers: 1,
			num_single_layers: 1,
			attention_head_dim: 16,
			num_attention_heads: 2,
			joint_attention_dim: 20,
			pooled_projection_dim: 24,
			guidance_embeds: true,
			axes_dims_rope: [4, 6, 6],
		},
		vae: { ...vaeConfig, scaling_factor: 0.3611, shift_factor: 0.1159, use_quant_conv: false, use_post_quant_conv: false },
	},
	dit: {
		...sd,
		className: 'DiTPipeline',
		encoders: [],
		denoiser: {
			_class_name: 'DiTTransformer2DModel',
			num_attention_heads: 2,
			attention_head_dim: 8,
			num_layers: 2,
			patch_size: 2,
			sample_size: 8,
			in_channels: 4,
			out_channels: 8,
			num_embeds_ada_norm: 3,
		},
		options: { id2label: { 0: 'owl', 1: 'fox', 2: 'boat' } },
	},
} as const satisfies Record<string, Recipe>;

export type RecipeName = keyof typeof recipes;

/** Paths of pipeline folders under `root` by name, each written when it is first asked for. */
export function tinyPipelines(root: string): (name: RecipeName) => Promise<string> {
	const written = new Map<RecipeName, Promise<string>>();
	return (name) => {
		const folder = written.get(name) ?? writeTinyPipeline(join(root, name), name);
		written.set(name, folder);
		return folder;
	};
}

/** Writes the pipeline folder `folder` and returns its path. */
export async function writeTinyPipeline(folder: string, name: RecipeName): Promise<string> {
	const { className, scheduler, encoders, denoiser, vae, options = {} }: Recipe = recipes[name];
	const parts: Record<string, readonly [string, string] | null> = {};
	for (const [i, encoder] of encoders.entries()) {
		const suffix = i === 0 ? '' : `_${i + 1}`;
		const [tokenizer, textEncoder] = [`tokenizer${suffix}`, `text_encoder${suffix}`];
		parts[tokenizer] = encoder && ['transformers', encoder[0] === 'T5EncoderModel' ? 'T5Tokenizer' : 'CLIPTokenizer'];
		parts[textEncoder] = encoder && ['transformers', encoder[0]];
		if (!encoder) continue;
		await (encoder[0] === 'T5EncoderModel' ? writeT5Tokenizer : writeClipTokenizer)(join(folder, tokenizer));
		const { chain } = createEncoder(encoder[0], encoder[1], encoder[0], { tokens: clipLength });
		await writeModelFolder(join(folder, textEncoder), encoder[1], weightsOf([chain], 10 + i), { base: 'model' });
	}
	const modelClass = String(denoiser._class_name);
	const part = modelClass.startsWith('UNet') ? 'unet' : 'transformer';
	parts[part] = ['diffusers', modelClass];
	const { chain } = createDenoiser(modelClass, denoiser, modelClass, { height: 8, width: 8 });
	await writeModelFolder(join(folder, part), denoiser, weightsOf([chain], 20));
	parts.vae = ['diffusers', 'AutoencoderKL'];
	const config = readAutoencoderKLConfig(vae);
	await writeModelFolder(join(folder, 'vae'), vae, weightsOf([autoencoderKLEncoderChain(config), autoencoderKLDecoderChain(config)], 30));
	parts.scheduler = ['diffusers', String(scheduler._class_name)];
	await mkdir(join(folder, 'scheduler'), { recursive: true });
	await writeJson(join(folder, 'scheduler', 'scheduler_config.json'), scheduler);
	await writePipelineIndex(folder, { className, diffusersVersion: undefined, parts, options });
	return folder;
}

/** Writes a ControlNet for the U-Net of `sd` into `folder`. */
export async function writeTinyControlNet(folder: string, over: Config = {}): Promise<string> {
	const { sample_size: _, up_block_types: __, ...shared } = recipes.sd.denoiser;
	const config = { ...shared, _class_name: 'ControlNetModel', conditioning_embedding_out_channels: [8, 16], ...over };
	const chain = controlNetChain(readControlNetConfig(config), { height: 8, width: 8 });
	await writeModelFolder(folder, config, weightsOf([chain], 40));
	return folder;
}

/** Ids that the CLIP tokenizer of the folders gives for words of letters, padded to `clipLength`. */
export function clipIds(words: readonly string[]): number[] {
	const id = (piece: string) => clipPieces.indexOf(piece);
	const ids = words.flatMap((word) => [...word].map((c, i) => id(i === word.length - 1 ? `${c}</w>` : c)));
	const end = id('<|endoftext|>');
	return [id('<|startoftext|>'), ...ids, ...new Array<number>(clipLength - 1 - ids.length).fill(end)];
}

/** Ids that the T5 tokenizer of the folders gives for one word or none, padded to `tokens`. */
export function t5Ids(word: string, tokens: number): number[] {
	const ids = [...(word === '' ? '' : `▁${word}`)].map((c) => t5Pieces.indexOf(c));
	return [...ids, 1, ...new Array<number>(tokens - 1 - ids.length).fill(0)];
}

/** Config and weights of a part, for a test to compute with by itself. */
export async function readPart(folder: string): Promise<{ config: Config; weights: Map<string, Tensor> }> {
	const { config, weights } = await readModelFolder(folder);
	const tensors = new Map<string, Tensor>();
	for (const name of weights.names) tensors.set(name, await weights.read(name));
	await weights.close();
	return { config: config as Config, weights: tensors };
}
