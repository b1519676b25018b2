/**
 * @file T5EncoderModel: the encoder of T5 and T5 v1.1 (Raffel et al., 1910.10683; Shazeer, 2002.05202), names and config as transformers. Dropout is
 * not applied: the encoder runs as in evaluation. Legend: B batch, T tokens, C width, N heads.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import { tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import { attention } from '../nn/attention.ts';
import type { Chain, Layer } from '../nn/chain.ts';
import type { Init, LayerContext } from '../nn/context.ts';
import { embedding, linear } from '../nn/linear.ts';
import { rmsNorm } from '../nn/norm.ts';
import { sharedConstant } from '../nn/shared-constant.ts';
import type { OptionsOf } from './config.ts';
import { readTransformersConfig, type TextActivation, textActivationNames, textActivations } from './transformers-config.ts';

export interface T5Config {
	vocab_size: number;
	d_model: number;
	d_kv: number;
	d_ff: number;
	num_layers: number;
	num_heads: number;
	relative_attention_num_buckets: number;
	relative_attention_max_distance: number;
	layer_norm_epsilon: number;
	initializer_factor: number;
	/** Activation of the feed-forward, `gated-` before it where it has a gate. */
	feed_forward_proj: string;
	/** What `feed_forward_proj` says, in two keys: these rule where they are given. */
	dense_act_fn: TextActivation;
	is_gated_act: boolean;
	is_decoder: boolean;
}

const options: OptionsOf<Omit<T5Config, 'dense_act_fn' | 'is_gated_act'> & { dense_act_fn: string | null; is_gated_act: boolean | null }> =
	{
		vocab_size: { kind: 'number', default: 32128 },
		d_model: { kind: 'number', default: 512 },
		d_kv: { kind: 'number', default: 64 },
		d_ff: { kind: 'number', default: 2048 },
		num_layers: { kind: 'number', default: 6 },
		num_heads: { kind: 'number', default: 8 },
		relative_attention_num_buckets: { kind: 'number', default: 32 },
		relative_attention_max_distance: { kind: 'number', default: 128 },
		layer_norm_epsilon: { kind: 'number', default: 1e-6 },
		initializer_factor: { kind: 'number', default: 1 },
		feed_forward_proj: { kind: 'string', default: 'relu' },
		dense_act_fn: { kind: 'string', default: null },
		is_gated_act: { kind: 'boolean', default: null },
		is_decoder: { kind: 'only', values: [false], default: false },
	};

const ignored = ['dropout_rate', 'classifier_dropout', 'num_decoder_layers', 'scale_decoder_outputs', 'eos_token_id', 'n_positions'];

/** Checks a `config.json` of T5EncoderModel and fills defaults in. */
export function readT5Config(raw: unknown, place = 'T5EncoderModel'): T5Config {
	const read = readTransformersConfig('T5EncoderModel', raw, options, ignored, place);
	const gated = read.feed_forward_proj.startsWith('gated-');
	const named = gated ? read.feed_forward_proj.slice('gated-'.length) : read.feed_forward_proj;
	// T5 v1.1 says gelu and means its tanh form.
	const activation = read.dense_act_fn ?? (gated && named === 'gelu' ? 'gelu_new' : named);
	if (!Object.hasOwn(textActivations, activation)) {
		const key = read.dense_act_fn === null ? 'feed_forward_proj' : 'dense_act_fn';
		throw new DiffusionPipeError('config', `option ${key} cannot be used`, {
			place,
			expected: `one of ${textActivationNames.join(', ')}${key === 'feed_forward_proj' ? ', with gated- before it or not' : ''}`,
			found: JSON.stringify(read[key]),
		});
	}
	return { ...read, dense_act_fn: activation as TextActivation, is_gated_act: read.is_gated_act ?? gated };
}

/** What a config leaves open. */
export interface T5Options {
	/** Tokens of a text. Default 512. */
	readonly tokens?: number;
	/** Adds the input attention_mask [B, T] (int64), 1 for tokens to look at, 0 for padding. Without it all are looked at. */
	readonly attentionMask?: boolean;
	/** Chain outputs: of last_hidden_state (default) and hidden_states.0 to hidden_states.<num_layers> (the embeddings, then what each block gives). */
	readonly outputs?: readonly string[];
}

/** input_ids [B, T] (int64) to last_hidden_state [B, T, d_model]. One layer per block. */
export function t5EncoderChain(config: T5Config, chainOptions: T5Options = {}): Chain {
	const {
		d_model: width,
		num_layers: count,
		num_heads: heads,
		relative_attention_num_buckets: buckets,
		initializer_factor: factor,
	} = config;
	const { tokens = 512, attentionMask = false } = chainOptions;
	const shared: Layer = {
		name: 'shared',
		build(ctx, live) {
			live.set('hidden_states.0', embedding(ctx, live.get('input_ids'), config.vocab_size, width, { kind: 'normal', std: factor }));
		},
	};
	const blocks = Array.from(
		{ length: count },
		(_, i): Layer => ({
			name: `encoder.block.${i}`,
			build(ctx, live) {
				const { g } = ctx;
				const x_BTC = live.get(`hidden_states.${i}`);
				if (i === 0) {
					const init = { kind: 'normal', std: factor / Math.sqrt(width) } as const;
					const table = ctx.param('layer.0.SelfAttention.relative_attention_bias.weight', [buckets, heads], init);
					// The first block's table serves all blocks. It is small where the biases made from it are not, so it is what crosses cuts; live values
					// have a batch axis.
					live.set('relative_attention_bias', g.expand(g.unsqueeze(table, [0]), [x_BTC.shape[0]!, buckets, heads]));
				}
				const bias = positionBias(g, live.get('relative_attention_bias'), tokens, config);
				const mask = attentionMask ? g.add(bias, maskBias(g, live.get('attention_mask'))) : bias;
				live.set(`hidden_states.${i + 1}`, t5Block(ctx, x_BTC, mask, config));
			},
		}),
	);
	const final: Layer = {
		name: 'encoder.final_layer_norm',
		build(ctx, live) {
			live.set('last_hidden_state', rmsNorm(ctx, live.get(`hidden_states.${count}`), config.layer_norm_epsilon));
		},
	};
	return {
		name: 'T5EncoderModel',
		inputs: {
			input_ids: { dtype: 'int64', shape: [tokens] },
			...(attentionMask ? { attention_mask: { dtype: 'int64', shape: [tokens] } } : {}),
		},
		layers: [shared, ...blocks, final],
		outputs: chainOptions.outputs ?? ['last_hidden_state'],
	};
}

/** Self-attention with `bias` added to its unscaled scores, then the feed-forward, each after its norm and beside its residual. */
function t5Block(ctx: LayerContext, x_BTC: Value, bias: Value, config: T5Config): Value {
	const { g } = ctx;
	const { d_model: width, d_kv, d_ff, num_heads: heads, initializer_factor: factor } = config;
	const inner = heads * d_kv;
	const project = (c: LayerContext, name: string, x: Value, out: number, fan: number) => {
		const weightInit: Init = { kind: 'normal', std: factor / Math.sqrt(fan) };
		return c.at(name, (p) => linear(p, x, out, { bias: false, weightInit }));
	};
	const normed = ctx.at('layer.0.layer_norm', (c) => rmsNorm(c, x_BTC, config.layer_norm_epsilon));
	const attended = ctx.at('layer.0.SelfAttention', (c) => {
		const q = project(c, 'q', normed, inner, width * d_kv);
		const [k, v] = [project(c, 'k', normed, inner, width), project(c, 'v', normed, inner, width)];
		return project(c, 'o', attention(g, q, k, v, heads, bias, 1), width, inner);
	});
	const h_BTC = g.add(x_BTC, attended);
	const again = ctx.at('layer.1.layer_norm', (c) => rmsNorm(c, h_BTC, config.layer_norm_epsilon));
	const fed = ctx.at('layer.1.DenseReluDense', (c) => {
		const active = textActivations[config.dense_act_fn](g, project(c, config.is_gated_act ? 'wi_0' : 'wi', again, d_ff, width));
		return project(c, 'wo', config.is_gated_act ? g.mul(active, project(c, 'wi_1', again, d_ff, width)) : active, width, d_ff);
	});
	return g.add(h_BTC, fed);
}

/** [1, N, T, T] from the table [B, buckets, N], the same for every sample: the bias of each query and key by the bucket of their distance. */
function positionBias(g: GraphBuilder, table: Value, tokens: number, config: T5Config): Value {
	const { relative_attention_num_buckets: buckets, relative_attention_max_distance: distance, num_heads: heads } = config;
	const indices = sharedConstant(g, `buckets ${tokens} ${buckets} ${distance}`, () => {
		const ofDistance = Array.from({ length: 2 * tokens - 1 }, (_, i) => relativeBucket(i - tokens + 1, buckets, distance));
		const at = (_: unknown, i: number) => ofDistance[(i % tokens) - Math.floor(i / tokens) + tokens - 1]!;
		return tensor('int64', [tokens * tokens], Array.from({ length: tokens * tokens }, at));
	});
	const first = g.reshape(g.slice(table, [0], [1], [0]), [buckets, heads]);
	const rows = g.gather(first, indices, 0);
	return g.reshape(g.transpose(rows, [1, 0]), [1, heads, tokens, tokens]);
}

/**
 * Bucket of a key `relative` tokens after its query: the upper half of the buckets for keys ahead; in each half, one bucket per distance up to half
 * of it, then distances up to `maxDistance` in logarithmic steps. In float32, as the boundaries are where models were trained.
 */
export function relativeBucket(relative: number, buckets: number, maxDistance: number): number {
	const half = Math.floor(buckets / 2);
	const exact = Math.floor(half / 2);
	const ahead = relative > 0 ? half : 0;
	const distance = Math.abs(relative);
	if (distance < exact) return ahead + distance;
	const share = Math.fround(Math.fround(Math.log(Math.fround(distance / exact))) / Math.fround(Math.log(maxDistance / exact)));
	return ahead + Math.min(half - 1, exact + Math.trunc(Math.fround(share * (half - exact))));
}

/** A mask [B, T] of ones and zeros (int64) as what is added to scores: [B, 1, 1, T]. */
function maskBias(g: GraphBuilder, mask_BT: Value): Value {
	const lowest = -3.4028234663852886e38;
	return g.unsqueeze(g.mul(g.sub(1, g.cast(mask_BT, 'float32')), lowest), [1, 2]);
}
