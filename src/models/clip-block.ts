/** @file The transformer block that CLIP's text and image encoders share (Radford et al., 2103.00020). Legend: B batch, T tokens, C width. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Value } from '../graph/types.ts';
import { attention } from '../nn/attention.ts';
import type { LayerContext } from '../nn/context.ts';
import { type LinearStart, linear } from '../nn/linear.ts';
import { layerNorm } from '../nn/norm.ts';
import { type TextActivation, textActivations } from './transformers-config.ts';

/** What both encoders' configs say of their blocks. */
export interface CLIPBlockConfig {
	hidden_size: number;
	intermediate_size: number;
	num_hidden_layers: number;
	num_attention_heads: number;
	hidden_act: TextActivation;
	layer_norm_eps: number;
	initializer_factor: number;
}

/** Throws a config error when the heads do not part the width evenly. */
export function checkHeads({ hidden_size, num_attention_heads }: CLIPBlockConfig, place: string): void {
	if (hidden_size % num_attention_heads === 0) return;
	throw new DiffusionPipeError('config', 'option num_attention_heads cannot be used', {
		place,
		expected: `a divisor of hidden_size ${hidden_size}`,
		found: `${num_attention_heads}`,
	});
}

/** Self-attention of x [B, T, C] (`mask` [T, T] is added to the scores), then the feed-forward, each after its norm and beside its residual. */
export function clipBlock(ctx: LayerContext, x_BTC: Value, config: CLIPBlockConfig, mask?: Value): Value {
	const { g } = ctx;
	const { hidden_size: width, num_attention_heads: heads, num_hidden_layers, initializer_factor: factor } = config;
	const start = (std: number): LinearStart => ({ weightInit: { kind: 'normal', std: std * factor }, biasInit: { kind: 'zeros' } });
	const inward = start(1 / Math.sqrt(2 * num_hidden_layers * width));
	const normed = ctx.at('layer_norm1', (c) => layerNorm(c, x_BTC, config.layer_norm_eps));
	const attended = ctx.at('self_attn', (a) => {
		const [q, k, v] = (['q_proj', 'k_proj', 'v_proj'] as const).map((name) => a.at(name, (c) => linear(c, normed, width, inward)));
		const mixed = attention(g, q!, k!, v!, heads, mask);
		return a.at('out_proj', (c) => linear(c, mixed, width, start(1 / Math.sqrt(width))));
	});
	const h_BTC = g.add(x_BTC, attended);
	const again = ctx.at('layer_norm2', (c) => layerNorm(c, h_BTC, config.layer_norm_eps));
	const fed = ctx.at('mlp', (m) => {
		const hidden = m.at('fc1', (c) => linear(c, again, config.intermediate_size, start(1 / Math.sqrt(2 * width))));
		return m.at('fc2', (c) => linear(c, textActivations[config.hidden_act](g, hidden), width, inward));
	});
	return g.add(h_BTC, fed);
}
