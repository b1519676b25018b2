/** @file A ControlNet in front of its U-Net, as one chain. */
import { DiffusionPipeError } from '../core/errors.ts';
import { controlNetChain, readControlNetConfig } from '../models/controlnet.ts';
import type { Denoiser } from '../models/index.ts';
import type { SizeOptions } from '../models/sample-size.ts';
import { midResidualName, readUNetConditionConfig, skipResidualName, unetConditionChain } from '../models/unet-condition.ts';
import type { Chain, Layer, Live } from '../nn/chain.ts';
import type { ModelPart, WeightSource } from './parts.ts';

/** Path of the ControlNet's parameters and live values in the joined chain. */
const prefix = 'controlnet.';
/** Chain inputs of the joined chain: the image of conditions, values in [0, 1], and what the residuals are multiplied by. */
export const controlImageInput = 'controlnet_cond';
export const controlScaleInput = 'conditioning_scale';

/** A U-Net with a ControlNet, built for a size of latents. */
export interface ControlledDenoiser {
	readonly denoiser: Denoiser;
	/** Weights of both, the ControlNet's under `controlnet.`. */
	readonly source: WeightSource;
	/** [channels, height, width] of `controlnet_cond`. */
	readonly image: readonly [number, number, number];
	/** True when rows without the prompt take no residuals (ControlNets with `global_pool_conditions`). */
	readonly promptOnly: boolean;
}

/** Builds the denoiser. Throws a config error when the two models do not fit together. */
export function controlledDenoiser(
	unet: ModelPart,
	control: ModelPart,
	size: Required<SizeOptions> & { readonly tokens: number },
): ControlledDenoiser {
	for (const [part, className] of [
		[unet, 'UNet2DConditionModel'],
		[control, 'ControlNetModel'],
	] as const) {
		if (part.className === className) continue;
		throw new DiffusionPipeError('config', 'cannot be used with a ControlNet', {
			place: part.place,
			expected: className,
			found: part.className,
		});
	}
	const config = readUNetConditionConfig(unet.config, unet.place);
	const controlConfig = readControlNetConfig(control.config, control.place);
	const pooled = controlConfig.global_pool_conditions;
	const main = unetConditionChain(config, { ...size, residuals: pooled ? 'pooled' : 'maps' });
	const side = controlNetChain(controlConfig, size);
	checkFit(main, side, control.place);
	const chain = joined(main, side);
	const own = new Set(['sample', 'timestep']);
	return {
		denoiser: {
			config: { _class_name: unet.className, ...config },
			chain,
			sample: 'sample',
			output: 'sample',
			labels: undefined,
			conditioning: Object.fromEntries(Object.entries(chain.inputs).filter(([name]) => !own.has(name))),
			fixed: {},
			timestepScale: 1,
		},
		source: joinedWeights(unet, control),
		image: side.inputs[controlImageInput]!.shape as [number, number, number],
		promptOnly: pooled,
	};
}

const isResidual = (name: string) => name === midResidualName || name.startsWith(skipResidualName(0).slice(0, -1));

/** Every input that both have, and every residual, must be of one shape. */
function checkFit(main: Chain, side: Chain, place: string): void {
	const residuals = (names: readonly string[]) => names.filter(isResidual).sort().join(', ');
	const shared = Object.entries(side.inputs).find(
		([name, { shape }]) => name !== controlImageInput && main.inputs[name]?.shape.join() !== shape.join(),
	);
	if (!shared && residuals(Object.keys(main.inputs)) === residuals(side.outputs)) return;
	throw new DiffusionPipeError('config', 'the ControlNet does not fit the U-Net', {
		place,
		expected: shared
			? `${shared[0]} [${main.inputs[shared[0]]?.shape.join(', ') ?? 'which the U-Net does not take'}]`
			: `residuals ${residuals(Object.keys(main.inputs))}`,
		found: shared ? `[${shared[1].shape.join(', ')}]` : residuals(side.outputs),
		hint: 'take a ControlNet made for this model',
	});
}

/** The ControlNet's layers, among live values of their own, then the U-Net's. */
function joined(main: Chain, side: Chain): Chain {
	const enter: Layer = {
		name: `${prefix}inputs`,
		build(_, live) {
			for (const name of Object.keys(side.inputs)) live.set(prefix + name, live.get(name));
		},
	};
	const own = (live: Live): Live => ({ get: (name) => live.get(prefix + name), set: (name, value) => live.set(prefix + name, value) });
	const sideLayers = side.layers.map(
		(layer): Layer => ({
			name: prefix + layer.name,
			path: (prefix + (layer.path ?? layer.name)).replace(/\.$/, ''),
			build: (ctx, live) => layer.build(ctx, own(live)),
		}),
	);
	const leave: Layer = {
		name: `${prefix}residuals`,
		build({ g }, live) {
			const scale = g.unsqueeze(live.get(controlScaleInput), [1, 2, 3]);
			for (const name of side.outputs) live.set(name, g.mul(live.get(prefix + name), scale));
		},
	};
	return {
		name: `${main.name} with ${side.name}`,
		inputs: {
			...Object.fromEntries(Object.entries(main.inputs).filter(([name]) => !isResidual(name))),
			[controlImageInput]: side.inputs[controlImageInput]!,
			[controlScaleInput]: { dtype: 'float32', shape: [] },
		},
		layers: [enter, ...sideLayers, leave, ...main.layers],
		outputs: main.outputs,
	};
}

function joinedWeights(unet: ModelPart, control: ModelPart): WeightSource {
	const of = (name: string) => (name.startsWith(prefix) ? control.weights : unet.weights);
	const own = (name: string) => (name.startsWith(prefix) ? name.slice(prefix.length) : name);
	return {
		folder: `${unet.folder} with ${control.folder}`,
		weights: {
			has: (name) => of(name).has(own(name)),
			info: (name) => of(name).info(own(name)),
			read: (name) => of(name).read(own(name)),
		},
	};
}
