/**
 * @file A locked U-Net beside a ControlNet in training: its encoder only runs forward, on noised latents and text that are known before the step; gradients
 * pass through its decoder to the ControlNet.
 */
import { type Chain, type ChainInput, type Layer, type Live, liveAt, traceChain } from '../nn/chain.ts';
import { freezeLayers } from '../nn/freeze.ts';

/** Prefix of the locked U-Net's layers, live values and parameters in the joined chain. */
export const locked = 'unet.';

/** A U-Net with control residuals as two chains, cut before the first layer that takes one: what the second needs of the first is its inputs. */
export function splitUNet(unet: Chain): { readonly encoder: Chain; readonly decoder: Chain } {
	const trace = traceChain(unet, 1);
	const residual = (id: string) => id.includes('additional_residual');
	const cut = trace.layers.findIndex((layer) => layer.reads.some(residual));
	const crossing = new Set(liveAt(trace, cut));
	const names = [...trace.names[cut]!].filter(([, id]) => crossing.has(id));
	const handed = Object.fromEntries(
		names.map(([name, id]): [string, ChainInput] => {
			const { dtype, shape } = trace.definitions.get(id)!;
			return [name, { dtype, shape: shape.slice(1) }];
		}),
	);
	const own = Object.entries(unet.inputs);
	return {
		encoder: {
			...unet,
			name: `${unet.name}.encoder`,
			inputs: Object.fromEntries(own.filter(([name]) => !residual(name))),
			layers: unet.layers.slice(0, cut),
			outputs: Object.keys(handed),
		},
		decoder: {
			...unet,
			name: `${unet.name}.decoder`,
			inputs: { ...Object.fromEntries(own.filter(([name]) => !Object.hasOwn(handed, name) && name !== 'sample')), ...handed },
			layers: unet.layers.slice(cut),
		},
	};
}

/** `control`, then `decoder` on its residuals, frozen, whose other values are its own under a prefix. */
export function joinControl(control: Chain, decoder: Chain): Chain {
	const given = new Set(control.outputs);
	const inner = (name: string) => (given.has(name) ? name : `${locked}${name}`);
	const renamed = freezeLayers(decoder).layers.map(
		(layer): Layer => ({
			name: `${locked}${layer.name}`,
			path: `${locked}${layer.path ?? layer.name}`.replace(/\.$/, ''),
			build(ctx, live) {
				const own: Live = { get: (name) => live.get(inner(name)), set: (name, value) => live.set(inner(name), value) };
				layer.build(ctx, own);
			},
		}),
	);
	const inputs = Object.entries(decoder.inputs).filter(([name]) => !given.has(name));
	return {
		name: `${control.name}.locked`,
		inputs: { ...control.inputs, ...Object.fromEntries(inputs.map(([name, input]) => [inner(name), input])) },
		layers: [...control.layers, ...renamed],
		outputs: decoder.outputs.map(inner),
	};
}

/**
 * `control`, then the whole of `unet`, frozen, on its residuals. Both take the same noised sample, timestep and text; the prediction is `unet.sample`. Its
 * encoder is run in its turn here: no gradient passes through it.
 */
export function joinWhole(control: Chain, unet: Chain): Chain {
	const joined = joinControl(control, unet);
	const shared = Object.keys(unet.inputs).filter((name) => Object.hasOwn(control.inputs, name));
	const first = control.layers.length;
	const entering = (layer: Layer): Layer => ({
		...layer,
		build(ctx, live) {
			for (const name of shared) live.set(`${locked}${name}`, live.get(name));
			layer.build(ctx, live);
		},
	});
	return {
		...joined,
		inputs: Object.fromEntries(Object.entries(joined.inputs).filter(([name]) => !shared.some((known) => name === `${locked}${known}`))),
		layers: joined.layers.map((layer, i) => (i === first ? entering(layer) : layer)),
	};
}
