/**
 * @file The way of a feature map through a U-Net or image encoder: layers laid one after another, skips kept on the way down and joined on the way up.
 * Every residual block, attention and resampling is a layer of its own, so that a chain can be cut at each.
 */
import type { Value } from '../graph/types.ts';
import { type ActivationName, activations } from '../nn/activation.ts';
import type { Layer, Live } from '../nn/chain.ts';
import type { LayerContext } from '../nn/context.ts';
import { conv2d, groupNorm } from '../nn/conv.ts';
import { type DownsamplePadding, downsample2d, downsampledSize, upsample2d, upsampleNearestTo } from '../nn/resample.ts';
import { resnetBlock } from '../nn/resnet.ts';
import { spatialAttention } from '../nn/spatial-attention.ts';
import { basicTransformerBlock, enterTransformer, leaveTransformer } from '../nn/transformer-block.ts';

/** What a feature map measures. */
export interface FeatureMap {
	readonly channels: number;
	readonly height: number;
	readonly width: number;
}

/** A feature map kept under a live name. */
export interface Skip extends FeatureMap {
	readonly name: string;
}

/** Layers laid so far and the feature map the last of them gives. */
export interface Path {
	readonly layers: Layer[];
	/** Live name of the newest feature map. */
	at: string;
	map: FeatureMap;
	/** Feature maps kept for the way up, oldest first. */
	readonly skips: Skip[];
	readonly style: PathStyle;
}

/** What all blocks of a path share. */
export interface PathStyle {
	readonly groups: number;
	readonly epsilon: number;
	readonly activation: ActivationName;
	readonly scaleShift: boolean;
	readonly downsamplePadding: DownsamplePadding;
	/** Live name of the activated time embedding, or undefined for models without. */
	readonly emb: string | undefined;
	/** Live name of the text context, for cross-attention. */
	readonly context: string;
}

/** Attention after a residual block. `cross`: a `Transformer2DModel` of `depth` blocks; `self`: one group-normed self-attention. */
export type BlockAttention =
	| { readonly kind: 'none' }
	| { readonly kind: 'self'; readonly heads: number; readonly groups: number | null }
	| { readonly kind: 'cross'; readonly heads: number; readonly depth: number; readonly linear: boolean; readonly onlyCross: boolean };

/** How a block ends: by a strided or upsampling convolution, by a resampling residual block, or as it is. */
export type Resampling = 'conv' | 'resnet' | undefined;

/** A block of residual layers at one resolution. */
export interface BlockPlan {
	readonly name: string;
	readonly channels: number;
	/** Attention after each of its residual blocks. */
	readonly attentions: readonly BlockAttention[];
	readonly resampling: Resampling;
}

/** A path without layers, from the chain input `at`. */
export function newPath(style: PathStyle, at: string, map: FeatureMap): Path {
	return { layers: [], at, map, skips: [], style };
}

type Build = (ctx: LayerContext, x: Value, live: Live) => Value;

/** Lays a layer from the newest feature map to the next one; `keep` makes that a skip. `at`: path of its parameters, when not the name. */
export function lay(path: Path, name: string, map: FeatureMap, build: Build, { keep = false, at = name } = {}): void {
	const from = path.at;
	// A kept map goes by its skip's name alone, so that live sets name what crosses a cut.
	const to = keep ? `skip.${path.skips.length}` : 'hidden';
	path.layers.push({
		name,
		...(at === name ? {} : { path: at }),
		build: (ctx, live) => live.set(to, build(ctx, live.get(from), live)),
	});
	path.at = to;
	path.map = map;
	if (keep) path.skips.push({ name: to, ...map });
}

/** Lays `conv_in` under `prefix`, to `channels`. `center`: [0, 1] is brought to [-1, 1] first. */
export function layInput(path: Path, channels: number, { prefix = '', kernel = 3, center = false, keep = false } = {}): void {
	const padding = Math.floor((kernel - 1) / 2);
	lay(
		path,
		`${prefix}conv_in`,
		{ ...path.map, channels },
		(ctx, x) => conv2d(ctx, center ? ctx.g.sub(ctx.g.mul(x, 2), 1) : x, channels, kernel, { padding }),
		{ keep },
	);
}

/** Lays `conv_norm_out`, `activation` and `conv_out` under `prefix`, to `channels`; the result is live as `to`. */
export function layOutput(
	path: Path,
	channels: number,
	to: string,
	activation: ActivationName,
	{ prefix = '', kernel = 3 }: { readonly prefix?: string; readonly kernel?: number } = {},
): void {
	const { at } = path;
	const { groups, epsilon } = path.style;
	const padding = Math.floor((kernel - 1) / 2);
	path.layers.push({
		name: `${prefix}conv_out`,
		path: '',
		build(ctx, live) {
			const normal = ctx.at(`${prefix}conv_norm_out`, (c) => groupNorm(c, live.get(at), groups, epsilon));
			const active = activations[activation](ctx.g, normal);
			live.set(
				to,
				ctx.at(`${prefix}conv_out`, (c) => conv2d(c, active, channels, kernel, { padding })),
			);
		},
	});
	path.at = to;
	path.map = { ...path.map, channels };
}

/** Lays residual blocks with their attentions; the map after each pair is kept as a skip. */
export function downBlock(path: Path, plan: BlockPlan, keep = true): void {
	const { style } = path;
	plan.attentions.forEach((attention, j) => {
		layResnet(path, `${plan.name}.resnets.${j}`, plan.channels, { keep: keep && attention.kind === 'none' });
		layAttention(path, `${plan.name}.attentions.${j}`, attention, keep);
	});
	const name = `${plan.name}.downsamplers.0`;
	const { channels, height, width } = path.map;
	if (plan.resampling === 'conv') {
		const { downsamplePadding: padding } = style;
		const half = { channels, height: downsampledSize(height, padding), width: downsampledSize(width, padding) };
		lay(path, name, half, (ctx, x) => downsample2d(ctx, x, padding), { keep });
	} else if (plan.resampling === 'resnet') {
		const half = { channels, height: Math.floor(height / 2), width: Math.floor(width / 2) };
		const resample = (ctx: LayerContext) => (x: Value) => ctx.g.averagePool(x, { kernel: [2, 2], strides: [2, 2] });
		layResnet(path, name, channels, { keep, map: half, resample });
	}
}

/** Lays the blocks at the lowest resolution: a residual block, then a pair of attention and residual block for each of `attentions`. */
export function midBlock(path: Path, name: string, attentions: readonly BlockAttention[], outputScale = 1): void {
	const { channels } = path.map;
	layResnet(path, `${name}.resnets.0`, channels, { outputScale });
	attentions.forEach((attention, i) => {
		layAttention(path, `${name}.attentions.${i}`, attention, false, attention.kind === 'self' ? outputScale : 1);
		layResnet(path, `${name}.resnets.${i + 1}`, channels, { outputScale });
	});
}

/** What is added to skip `index` before it is joined (control residuals). */
export type SkipResidual = (live: Live, index: number) => Value;

/**
 * Lays residual blocks, each joined with the newest skip left (when the path has any), with their attentions, and the upsampling to the size of the
 * next skip.
 */
export function upBlock(path: Path, plan: BlockPlan, residual?: SkipResidual): void {
	plan.attentions.forEach((attention, j) => {
		const skip = path.skips.pop();
		const index = path.skips.length;
		const kept = (ctx: LayerContext, live: Live) => {
			const map = live.get(skip!.name);
			return residual ? ctx.g.add(map, residual(live, index)) : map;
		};
		layResnet(path, `${plan.name}.resnets.${j}`, plan.channels, skip ? { kept } : {});
		layAttention(path, `${plan.name}.attentions.${j}`, attention, false);
	});
	if (plan.resampling === undefined) return;
	const { channels } = path.map;
	// Sizes that halve with a remainder come back to what they were on the way down.
	const { height, width } = path.skips.at(-1) ?? { height: 2 * path.map.height, width: 2 * path.map.width };
	const large = { channels, height, width };
	const name = `${plan.name}.upsamplers.0`;
	if (plan.resampling === 'conv') lay(path, name, large, (ctx, x) => upsample2d(ctx, x, height, width));
	else layResnet(path, name, channels, { map: large, resample: (ctx) => (x) => upsampleNearestTo(ctx.g, x, height, width) });
}

interface ResnetPlace {
	readonly keep?: boolean;
	readonly map?: FeatureMap;
	readonly outputScale?: number;
	/** The skip to join to the input along its channels. */
	readonly kept?: (ctx: LayerContext, live: Live) => Value;
	readonly resample?: (ctx: LayerContext) => (x: Value) => Value;
}

function layResnet(path: Path, name: string, channels: number, place: ResnetPlace): void {
	const { style, map } = path;
	const { keep = false, outputScale = 1, kept, resample } = place;
	lay(
		path,
		name,
		place.map ?? { ...map, channels },
		(ctx, x, live) => {
			const input = kept ? ctx.g.concat([x, kept(ctx, live)], 1) : x;
			return resnetBlock(ctx, input, channels, style.emb === undefined ? undefined : live.get(style.emb), {
				groups: style.groups,
				epsilon: style.epsilon,
				activation: style.activation,
				scaleShift: style.scaleShift,
				outputScale,
				...(resample ? { resample: resample(ctx) } : {}),
			});
		},
		{ keep },
	);
}

function layAttention(path: Path, name: string, attention: BlockAttention, keep: boolean, outputScale = 1): void {
	if (attention.kind === 'none') return;
	const { epsilon } = path.style;
	if (attention.kind === 'cross') layTransformer(path, name, attention, keep);
	else {
		const options = { heads: attention.heads, groups: attention.groups, epsilon, outputScale };
		lay(path, name, path.map, (ctx, x) => spatialAttention(ctx, x, options), { keep });
	}
}

/** One layer per transformer block; the first also normalises and projects the map to tokens, the last projects them back and adds the residual. */
function layTransformer(path: Path, name: string, attention: BlockAttention & { kind: 'cross' }, keep: boolean): void {
	const { map, style } = path;
	const { heads, depth, linear, onlyCross } = attention;
	const from = path.at;
	const block = (ctx: LayerContext, k: number, tokens: Value, live: Live) =>
		ctx.at(`transformer_blocks.${k}`, (c) =>
			basicTransformerBlock(c, tokens, live.get(style.context), { heads, onlyCrossAttention: onlyCross }),
		);
	const enter = (ctx: LayerContext, x: Value) => enterTransformer(ctx, x, style.groups, linear);
	for (let k = 0; k < depth - 1; k++) {
		path.layers.push({
			name: `${name}.transformer_blocks.${k}`,
			path: name,
			build(ctx, live) {
				const tokens = k === 0 ? enter(ctx, live.get(from)) : live.get('tokens');
				live.set('tokens', block(ctx, k, tokens, live));
			},
		});
	}
	const last = (ctx: LayerContext, x: Value, live: Live) => {
		const tokens = depth > 1 ? live.get('tokens') : enter(ctx, x);
		return leaveTransformer(ctx, depth > 0 ? block(ctx, depth - 1, tokens, live) : tokens, x, linear);
	};
	lay(path, depth > 1 ? `${name}.transformer_blocks.${depth - 1}` : name, map, last, { keep, at: name });
}
