/**
 * @file Low-rank adaptation (Hu et al., 2106.09685) of a chain: chosen projections y = W x get a trained part, y = W x + (alpha / rank) B A x, and
 * the model's own weights stay as they are. Parameters are named as PEFT names them: `lora_A.weight` [rank, in] and `lora_B.weight` [out, rank]
 * beside the projection's `weight`; of convolutions [rank, in, k, k] and [out, rank, 1, 1].
 */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { type Chain, traceChain } from './chain.ts';
import type { Adapter, Init, LayerContext } from './context.ts';
import { defaultInit } from './linear.ts';

/** How A starts; B is zero, so that the adapted model begins as the model it adapts. */
export type LoraInit =
	/** As PyTorch starts a linear layer: uniform with bound 1 / sqrt(fan in). PEFT's default. */
	| 'kaiming_uniform'
	/** Normal with deviation 1 / rank, as diffusers' training scripts have it. */
	| 'gaussian';

/** What is adapted, and how. */
export interface LoraOptions {
	readonly rank: number;
	/** The trained part is multiplied by alpha / rank. */
	readonly alpha: number;
	/** Paths of the projections, as `transformer_blocks.0.attn1.to_q`; see `adaptable` and `chooseModules`. */
	readonly modules: readonly string[];
	readonly init: LoraInit;
}

/** `chain` with its parameters declared as buffers, and the trained matrices added to the projections that `options` name. */
export function loraChain(chain: Chain, options: LoraOptions): Chain {
	const chosen = new Set(options.modules);
	return adapted(chain, (ctx) => (chosen.has(ctx.path) ? lowRank(ctx, options) : undefined), true);
}

/** Paths of the projections of `chain` that can be adapted: linear layers and convolutions, in their order. */
export function adaptable(chain: Chain): string[] {
	const found = new Set<string>();
	const note = (ctx: LayerContext): Adapter => ({
		linear(_, y) {
			found.add(ctx.path);
			return y;
		},
		conv(_, y) {
			found.add(ctx.path);
			return y;
		},
	});
	traceChain(adapted(chain, note, false), 1);
	return [...found];
}

/**
 * The projections of `chain` that `wanted` means, as PEFT reads `target_modules`: names, each of which means the paths that are it or end in a dot
 * and it (`to_q`, `attn1.to_q`), or one regular expression for whole paths.
 * @throws DiffusionPipeError of kind 'config' when the expression is none, or a name or the expression means nothing
 */
export function chooseModules(chain: Chain, wanted: readonly string[] | string, place = 'lora.target_modules'): string[] {
	const paths = adaptable(chain);
	if (typeof wanted === 'string') {
		const expression = wholePath(wanted, place);
		const chosen = paths.filter((path) => expression.test(path));
		return chosen.length > 0 ? chosen : meansNothing(wanted, paths, place);
	}
	const means = (name: string) => (path: string) => path === name || path.endsWith(`.${name}`);
	for (const name of wanted) if (!paths.some(means(name))) meansNothing(name, paths, place);
	return paths.filter((path) => wanted.some((name) => means(name)(path)));
}

function wholePath(wanted: string, place: string): RegExp {
	try {
		return new RegExp(`^(?:${wanted})$`);
	} catch (cause) {
		throw new DiffusionPipeError('config', 'is not a regular expression', { place, found: wanted, cause });
	}
}

function meansNothing(wanted: string, paths: readonly string[], place: string): never {
	// The last parts of paths that are names: `to_out.0` rather than `0`.
	const names = [...new Set(paths.map((path) => /[^.]*[a-z][^.]*(?:\.\d+)*$/i.exec(path)?.[0] ?? path))].sort();
	const near = nearestName(wanted, names);
	throw new DiffusionPipeError('config', `no projection of the model is called ${wanted}`, {
		place,
		expected: names.join(', '),
		...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
	});
}

/** `chain` with what `adapterAt` gives for the context of a projection; `frozen`: its own parameters become buffers. */
function adapted(chain: Chain, adapterAt: (ctx: LayerContext) => Adapter | undefined, frozen: boolean): Chain {
	const wrap = (ctx: LayerContext): LayerContext => ({
		...ctx,
		param: frozen ? ctx.buffer : ctx.param,
		at: (name, body) => ctx.at(name, (inner) => body(wrap(inner))),
		adapter: adapterAt(ctx),
	});
	return { ...chain, layers: chain.layers.map((layer) => ({ ...layer, build: (ctx, live) => layer.build(wrap(ctx), live) })) };
}

function lowRank(ctx: LayerContext, { rank, alpha, init }: LoraOptions): Adapter {
	const { g } = ctx;
	const scale = alpha / rank;
	const startOfA = (fanIn: number): Init => (init === 'gaussian' ? { kind: 'normal', std: 1 / rank } : defaultInit(fanIn));
	const weight = (name: string, shape: readonly number[], start: Init) => ctx.at(name, (c) => c.param('weight', shape, start));
	return {
		linear(x_NI, y_NO, kernel) {
			const [inner, outer] = [x_NI.shape[1]!, y_NO.shape[1]!];
			const a = weight('lora_A', [rank, inner, ...kernel], startOfA(inner));
			const b = weight('lora_B', [outer, rank, ...kernel], { kind: 'zeros' });
			const matrix = (value: typeof a) => (kernel.length > 0 ? g.reshape(value, value.shape.slice(0, 2)) : value);
			const low_NR = g.gemm(x_NI, matrix(a), undefined, { transB: true, alpha: scale });
			return g.gemm(low_NR, matrix(b), y_NO, { transB: true });
		},
		conv(x, y, kernel, options) {
			const [inner, outer] = [x.shape[1]!, y.shape[1]!];
			const a = weight('lora_A', [rank, inner, ...kernel], startOfA(kernel.reduce((n, k) => n * k, inner)));
			const b = weight('lora_B', [outer, rank, 1, 1], { kind: 'zeros' });
			const low = g.mul(g.conv(x, a, undefined, options), scale);
			return g.add(y, g.conv(low, b));
		},
	};
}
