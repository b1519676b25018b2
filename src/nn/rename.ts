/** @file A chain under other parameter names, for checkpoints saved before a spelling changed. */
import type { Chain } from './chain.ts';
import type { LayerContext } from './context.ts';

/** `chain` with every parameter and buffer called `rename(its name)`. */
export function renameParameters(chain: Chain, rename: (name: string) => string): Chain {
	const layers = chain.layers.map((layer) => ({
		name: layer.name,
		path: '',
		build: (root: LayerContext, live: Parameters<typeof layer.build>[1]) =>
			root.at(layer.path ?? layer.name, (ctx) => layer.build(renaming(ctx, root, rename), live)),
	}));
	return { ...chain, layers };
}

/** `ctx`, declaring what is asked of it at `root` under the new name. */
function renaming(ctx: LayerContext, root: LayerContext, rename: (name: string) => string): LayerContext {
	const full = (name: string) => rename(ctx.path === '' ? name : `${ctx.path}.${name}`);
	return {
		...ctx,
		param: (name, shape, init) => root.param(full(name), shape, init),
		buffer: (name, shape, init) => root.buffer(full(name), shape, init),
		at: (name, body) => ctx.at(name, (inner) => body(renaming(inner, root, rename))),
	};
}
