/** @file Layers whose weights are not trained: gradients still pass through them to what comes before. */
import type { Chain, Layer } from './chain.ts';
import type { LayerContext } from './context.ts';

/** `layer` with its parameters declared as buffers. */
export function frozenLayer(layer: Layer): Layer {
	return { ...layer, build: (ctx, live) => layer.build(frozen(ctx), live) };
}

/** `chain` with the layers that `picked` names frozen; all of them unless given. */
export function freezeLayers(chain: Chain, picked: (layer: string) => boolean = () => true): Chain {
	return { ...chain, layers: chain.layers.map((layer) => (picked(layer.name) ? frozenLayer(layer) : layer)) };
}

function frozen(ctx: LayerContext): LayerContext {
	return { ...ctx, param: ctx.buffer, at: (name, body) => ctx.at(name, (inner) => body(frozen(inner))) };
}
