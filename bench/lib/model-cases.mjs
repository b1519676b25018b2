/**
 * @file The models that the bench `models` times: the configs of test/fixtures, wide and deep enough that a pass is mostly arithmetic, on one core for
 * a second or more.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { autoencoderKLDecoderChain, autoencoderKLEncoderChain, readAutoencoderKLConfig } from '../../dist/models/autoencoder-kl.js';
import { controlNetChain, readControlNetConfig } from '../../dist/models/controlnet.js';
import { createEncoder } from '../../dist/models/encoders.js';
import { createDenoiser } from '../../dist/models/index.js';

/** Folder with config and reference numbers of `name`. */
export const fixtureFolder = (name) => fileURLToPath(new URL(`../../test/fixtures/${name}/`, import.meta.url));

const denoiser = (options) => (config) => createDenoiser(config._class_name, config, undefined, options).chain;
const encoder = (options) => (config) => createEncoder(config.architectures[0], config, undefined, { ...options }).chain;
const unet = { norm_num_groups: 32, block_out_channels: [128, 256], layers_per_block: 2 };
const cross = { ...unet, cross_attention_dim: 768 };
const square = { height: 32, width: 32, tokens: 77 };
const autoencoder = { block_out_channels: [64, 128], norm_num_groups: 32, layers_per_block: 2, sample_size: 64 };

/**
 * Each with its name, the folder in test/fixtures whose config `scale` goes over, `chain` of the whole config, and the batch. `outputs`: those of the
 * chain's that the loss is taken of, all by default. `below`: bound of int64 inputs, which PyTorch draws.
 */
export const cases = [
	{ name: 'unet-sd', batch: 2, scale: cross, chain: denoiser(square) },
	{
		name: 'unet-sdxl',
		batch: 2,
		scale: { ...cross, attention_head_dim: [2, 4], addition_time_embed_dim: 256, projection_class_embeddings_input_dim: 2816 },
		chain: denoiser(square),
	},
	{ name: 'unet-ddpm', batch: 4, scale: { ...unet, attention_head_dim: 64, sample_size: 32 }, chain: denoiser() },
	{
		name: 'controlnet',
		batch: 4,
		scale: { ...cross, conditioning_embedding_out_channels: [16, 32] },
		chain: (config) => controlNetChain(readControlNetConfig(config), square),
	},
	{
		name: 'vae-encoder',
		fixture: 'vae-kl',
		batch: 4,
		scale: autoencoder,
		outputs: ['mean'],
		chain: (config) => autoencoderKLEncoderChain(readAutoencoderKLConfig(config)),
	},
	{
		name: 'vae-decoder',
		fixture: 'vae-kl',
		batch: 2,
		scale: autoencoder,
		chain: (config) => autoencoderKLDecoderChain(readAutoencoderKLConfig(config)),
	},
	{
		name: 'dit',
		batch: 8,
		scale: { num_attention_heads: 6, attention_head_dim: 64, num_layers: 6, sample_size: 32 },
		chain: denoiser(),
		below: 11,
	},
	{
		name: 'pixart',
		batch: 8,
		scale: {
			num_attention_heads: 6,
			attention_head_dim: 64,
			cross_attention_dim: 384,
			num_layers: 6,
			sample_size: 32,
			caption_channels: 1024,
		},
		chain: denoiser({ tokens: 120 }),
	},
	{
		name: 'sd3',
		batch: 8,
		scale: {
			num_attention_heads: 6,
			attention_head_dim: 64,
			caption_projection_dim: 384,
			joint_attention_dim: 1024,
			pooled_projection_dim: 768,
			num_layers: 6,
			sample_size: 32,
		},
		chain: denoiser({ tokens: 77 }),
	},
	{
		name: 'flux',
		batch: 8,
		scale: {
			num_attention_heads: 6,
			attention_head_dim: 64,
			axes_dims_rope: [8, 28, 28],
			in_channels: 64,
			joint_attention_dim: 1024,
			pooled_projection_dim: 768,
			num_layers: 2,
			num_single_layers: 4,
		},
		chain: denoiser({ tokens: 128, height: 32, width: 32 }),
	},
	{
		name: 'clip-text',
		batch: 16,
		scale: {
			hidden_size: 512,
			intermediate_size: 2048,
			num_attention_heads: 8,
			num_hidden_layers: 6,
			max_position_embeddings: 77,
			vocab_size: 8192,
		},
		outputs: ['last_hidden_state'],
		chain: encoder({ outputs: ['last_hidden_state'] }),
		below: 8192,
	},
	{
		name: 't5-encoder',
		batch: 8,
		scale: {
			d_model: 512,
			d_kv: 64,
			d_ff: 1024,
			num_heads: 8,
			num_layers: 6,
			relative_attention_num_buckets: 32,
			relative_attention_max_distance: 128,
			vocab_size: 8192,
		},
		chain: encoder({ tokens: 128 }),
		below: 8192,
	},
].map((entry) => ({ fixture: entry.name, below: 2, ...entry }));

/** The config a case is timed with. */
export function configOf({ fixture, scale }) {
	return { ...JSON.parse(readFileSync(`${fixtureFolder(fixture)}config.json`, 'utf8')), ...scale };
}
