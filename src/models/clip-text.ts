/**
 * @file CLIPTextModel and CLIPTextModelWithProjection: the text transformer of CLIP (Radford et al., 2103.00020) and OpenCLIP, names and config as
 * transformers. Dropout is not applied: the encoder runs as in evaluation. Legend: B batch, T tokens, C width, N heads.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import { tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { Chain, Layer } from '../nn/chain.ts';
import { linear } from '../nn/linear.ts';
import { layerNorm } from '../nn/norm.ts';
import { sharedConstant } from '../nn/shared-constant.ts';
import { type CLIPBlockConfig, checkHeads, clipBlock } from './clip-block.ts';
import type { OptionsOf } from './config.ts';
import { readTransformersConfig, textActivationNames } from './transformers-config.ts';

export interface CLIPTextConfig extends CLIPBlockConfig {
	vocab_size: number;
	projection_dim: number;
	max_position_embeddings: number;
	eos_token_id: number;
}

const options: OptionsOf<CLIPTextConfig> = {
	vocab_size: { kind: 'number', default: 49408 },
	hidden_size: { kind: 'number', default: 512 },
	intermediate_size: { kind: 'number', default: 2048 },
	projection_dim: { kind: 'number', default: 512 },
	num_hidden_layers: { kind: 'number', default: 12 },
	num_attention_heads: { kind: 'number', default: 8 },
	max_position_embeddings: { kind: 'number', default: 77 },
	hidden_act: { kind: 'only', values: textActivationNames, default: 'quick_gelu' },
	layer_norm_eps: { kind: 'number', default: 1e-5 },
	initializer_factor: { kind: 'number', default: 1 },
	eos_token_id: { kind: 'number', default: 49407 },
};

const ignored = ['attention_dropout', 'dropout', 'initializer_range'];

/** Checks a `config.json` of CLIPTextModel or CLIPTextModelWithProjection and fills defaults in. */
export function readCLIPTextConfig(raw: unknown, place = 'CLIPTextModel'): CLIPTextConfig {
	const config = readTransformersConfig<CLIPTextConfig>('CLIPTextModel', raw, options, ignored, place);
	checkHeads(config, place);
	return config;
}

/** What a config leaves open. */
export interface CLIPTextOptions {
	/** Tokens of a text; default: as many as there are positions. */
	readonly tokens?: number;
	/** Adds `text_projection` and the output text_embeds: CLIPTextModelWithProjection. */
	readonly projection?: boolean;
	/** Path of the text model's parameters: `text_model` in published checkpoints (default), '' in CLIPTextModels saved by transformers 5.6 and later. */
	readonly prefix?: string;
	/**
	 * Chain outputs: of last_hidden_state, pooler_output, text_embeds and hidden_states.0 to hidden_states.<num_hidden_layers> (the embeddings, then
	 * what each layer gives, before the final norm). Default: the first two, and text_embeds where there is a projection.
	 */
	readonly outputs?: readonly string[];
}

/**
 * input_ids [B, T] (int64) to last_hidden_state [B, T, hidden_size], pooler_output [B, hidden_size] (the state at the end-of-text token) and
 * text_embeds [B, projection_dim]. One layer per block.
 */
export function clipTextChain(config: CLIPTextConfig, chainOptions: CLIPTextOptions = {}): Chain {
	const { hidden_size: width, num_hidden_layers: count, max_position_embeddings: positions, initializer_factor: factor } = config;
	const { tokens = positions, projection = false, prefix = 'text_model' } = chainOptions;
	if (tokens > positions) {
		throw new DiffusionPipeError('config', 'the text is longer than the model has positions', {
			place: 'CLIPTextModel',
			expected: `at most ${positions} tokens`,
			found: `${tokens}`,
		});
	}
	const within = (name: string) => (prefix === '' ? name : `${prefix}.${name}`);
	const embeddings: Layer = {
		name: 'embeddings',
		path: within('embeddings'),
		build(ctx, live) {
			const { g } = ctx;
			const init = { kind: 'normal', std: 0.02 * factor } as const;
			const table = ctx.param('token_embedding.weight', [config.vocab_size, width], init);
			const places = ctx.param('position_embedding.weight', [positions, width], init);
			const own = tokens === positions ? places : g.slice(places, [0], [tokens], [0]);
			live.set('hidden_states.0', g.add(g.gather(table, live.get('input_ids'), 0), own));
		},
	};
	const blocks = Array.from(
		{ length: count },
		(_, i): Layer => ({
			name: `encoder.layers.${i}`,
			path: within(`encoder.layers.${i}`),
			build(ctx, live) {
				const x_BTC = live.get(`hidden_states.${i}`);
				live.set(`hidden_states.${i + 1}`, clipBlock(ctx, x_BTC, config, causalMask(ctx.g, tokens)));
			},
		}),
	);
	const final: Layer = {
		name: 'final_layer_norm',
		path: within('final_layer_norm'),
		build(ctx, live) {
			const last = layerNorm(ctx, live.get(`hidden_states.${count}`), config.layer_norm_eps);
			live.set('last_hidden_state', last);
			live.set('pooler_output', pooled(ctx.g, last, live.get('input_ids'), config.eos_token_id));
		},
	};
	const project: Layer = {
		name: 'text_projection',
		build(ctx, live) {
			const weightInit = { kind: 'normal', std: factor / Math.sqrt(width) } as const;
			live.set('text_embeds', linear(ctx, live.get('pooler_output'), config.projection_dim, { bias: false, weightInit }));
		},
	};
	return {
		name: projection ? 'CLIPTextModelWithProjection' : 'CLIPTextModel',
		inputs: { input_ids: { dtype: 'int64', shape: [tokens] } },
		layers: [embeddings, ...blocks, final, ...(projection ? [project] : [])],
		outputs: chainOptions.outputs ?? ['last_hidden_state', 'pooler_output', ...(projection ? ['text_embeds'] : [])],
	};
}

/** [T, T]: 0 where a token looks at itself and earlier ones, the lowest float32 elsewhere. */
function causalMask(g: GraphBuilder, tokens: number): Value {
	const lowest = -3.4028234663852886e38;
	const at = (_: unknown, i: number) => (i % tokens > Math.floor(i / tokens) ? lowest : 0);
	return sharedConstant(g, `causal ${tokens}`, () => tensor('float32', [tokens, tokens], Array.from({ length: tokens * tokens }, at)));
}

/**
 * States [B, T, C] at each text's end, [B, C]: the first `eos` token, or the first of the highest ids where the config says 2. That is a mistake of
 * early configs, for whose models the end of text is the last word of the vocabulary.
 */
function pooled(g: GraphBuilder, states_BTC: Value, ids_BT: Value, eos: number): Value {
	const [batch, tokens, width] = states_BTC.shape as [number, number, number];
	// ArgMax takes the first of equals. Ids are far below 2^24, so float32 holds them.
	const scores = eos === 2 ? ids_BT : g.equal(ids_BT, eos);
	const end_B = g.argMax(g.cast(scores, 'float32'), 1, false);
	const rows_B = g.add(end_B, g.ints(Array.from({ length: batch }, (_, b) => b * tokens)));
	return g.gather(g.reshape(states_BTC, [batch * tokens, width]), rows_B, 0);
}
