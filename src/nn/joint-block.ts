/**
 * @file The transformer block of SD3 and Flux, in which image and text tokens attend to each other (MMDiT; Esser et al., 2403.03206), and the
 * output layer of both. Legend: B batch, T image tokens, S text tokens, C width.
 */
import type { Value } from '../graph/types.ts';
import type { LayerContext } from './context.ts';
import { feedForward } from './feed-forward.ts';
import { type JointAttentionOptions, jointAttention, normedSelfAttention } from './joint-attention.ts';
import { linear, zeroStart } from './linear.ts';
import { modulation } from './modulation.ts';
import { modulatedNorm } from './norm.ts';

export interface JointBlockOptions extends JointAttentionOptions {
	/** A second attention, of image tokens to themselves alone (SD3.5-medium). */
	readonly dual: boolean;
}

const epsilon = 1e-6;

/** Image tokens x [B,T,C] and text tokens [B,S,C] under the conditioning emb [B,C]; text is undefined after a block without `textOut`. */
export function jointBlock(
	ctx: LayerContext,
	x_BTC: Value,
	text_BSC: Value,
	emb_BC: Value,
	options: JointBlockOptions,
): { readonly x: Value; readonly text: Value | undefined } {
	const { g } = ctx;
	const { dual, textOut } = options;
	const width = x_BTC.shape.at(-1)!;
	const own = ctx.at('norm1', (c) => modulation(c, emb_BC, dual ? 9 : 6, width));
	const [shiftMsa, scaleMsa, gateMsa, shiftMlp, scaleMlp, gateMlp, shiftMsa2, scaleMsa2, gateMsa2] = own as Nine;
	const other = ctx.at('norm1_context', (c) => modulation(c, emb_BC, textOut ? 6 : 2, width));
	// A last block's text is only looked at: its modulation is scale and shift, in that order.
	const [textShift, textScale] = (textOut ? other : other.toReversed()) as [Value, Value];

	const normedText = modulatedNorm(g, text_BSC, textScale, textShift, epsilon);
	const mixed = ctx.at('attn', (c) => jointAttention(c, modulatedNorm(g, x_BTC, scaleMsa, shiftMsa, epsilon), normedText, options));
	let x = g.add(x_BTC, g.mul(gateMsa, mixed.x));
	if (dual) {
		const again = modulatedNorm(g, x_BTC, scaleMsa2, shiftMsa2, epsilon);
		const { rotary: _, ...rest } = options;
		x = g.add(
			x,
			g.mul(
				gateMsa2,
				ctx.at('attn2', (c) => normedSelfAttention(c, again, { ...rest, out: true })),
			),
		);
	}
	const toMlp = modulatedNorm(g, x, scaleMlp, shiftMlp, epsilon);
	x = g.add(
		x,
		g.mul(
			gateMlp,
			ctx.at('ff', (c) => feedForward(c, toMlp, 4 * width, 'gelu-approximate')),
		),
	);
	if (!mixed.text) return { x, text: undefined };

	const [, , textGateMsa, textShiftMlp, textScaleMlp, textGateMlp] = other as Six;
	const text = g.add(text_BSC, g.mul(textGateMsa, mixed.text));
	const textToMlp = modulatedNorm(g, text, textScaleMlp, textShiftMlp, epsilon);
	const fed = ctx.at('ff_context', (c) => feedForward(c, textToMlp, 4 * width, 'gelu-approximate'));
	return { x, text: g.add(text, g.mul(textGateMlp, fed)) };
}

type Six = [Value, Value, Value, Value, Value, Value];
type Nine = [...Six, Value, Value, Value];

/** `norm_out` (scale, then shift, from emb [B,C]) and `proj_out`: x [B,T,C] to [B,T,out]. */
export function jointOutput(ctx: LayerContext, x_BTC: Value, emb_BC: Value, out: number): Value {
	const width = x_BTC.shape.at(-1)!;
	const [scale, shift] = ctx.at('norm_out', (c) => modulation(c, emb_BC, 2, width)) as [Value, Value];
	const y_BTC = modulatedNorm(ctx.g, x_BTC, scale, shift, epsilon);
	return ctx.at('proj_out', (c) => linear(c, y_BTC, out, zeroStart));
}
