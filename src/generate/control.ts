/** @file A ControlNet in front of its U-Net, as one chain. */
import { DiffusionPipeError } from '../core/errors.ts';
import { checkControlFit, controlImageInput, isControlResidual } from '../models/control-fit.ts';
import { controlNetChain, readControlNetConfig } from '../models/controlnet.ts';
import type { Denoiser } from '../models/index.ts';
import type { SizeOptions } from '../models/sample-size.ts';
import { readUNetConditionConfig, unetConditionChain } from '../models/unet-condition.ts';
import type { Chain, Layer, Live } from '../nn/chain.ts';
import type { ModelPart, WeightSource } from './parts.ts';

/** Path of the ControlNet's parameters and live values in the joined chain. */
export const controlPrefix = 'controlnet.';
export { controlImageInput };
/** Chain input of the joined chain that the residuals are multiplied by. */
export const controlScaleInput = 'conditioning_scale';

/** A U-Net with a ControlNet, built for a size of latents. */
export interface ControlledDenoiser {
	readonly denoiser: Denoiser;
	/** [channels, height, width] of `controlnet_cond`. */
	readonly image: readonly [number, number, number];
	/** True when rows without the prompt take no residuals (ControlNets with `global_pool_conditions`). */
	readonly promptOnly: boolean;
}

/** What is known of a model but its weights. */
type Described = Pick<ModelPart, 'className' | 'config' | 'place'>;

/** Builds the denoiser. Throws a config error when the two models do not fit together. */
export function controlledDenoiser(
	unet: Described,
	control: Described,
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
	checkControlFit(main, side, control.place);
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
		image: side.inputs[controlImageInput]!.shape as [number, number, number],
		promptOnly: pooled,
	};
}

/** The ControlNet's layers, among live values of their own, then the U-Net's. */
function joined(main: Chain, side: Chain): Chain {
	const enter: Layer = {
		name: `${controlPrefix}inputs`,
		build(_, live) {
			for (const name of Object.keys(side.inputs)) live.set(controlPrefix + name, live.get(name));
		},
	};
	const own = (live: Live): Live => ({
		get: (name) => live.get(controlPrefix + name),
		set: (name, value) => live.set(controlPrefix + name, value),
	});
	const sideLayers = side.layers.map(
		(layer): Layer => ({
			name: controlPrefix + layer.name,
			path: (controlPrefix + (layer.path ?? layer.name)).replace(/\.$/, ''),
			build: (ctx, live) => layer.build(ctx, own(live)),
		}),
	);
	const leave: Layer = {
		name: `${controlPrefix}residuals`,
		build({ g }, live) {
			const scale = g.unsqueeze(live.get(controlScaleInput), [1, 2, 3]);
			for (const name of side.outputs) live.set(name, g.mul(live.get(controlPrefix + name), scale));
		},
	};
	return {
		name: `${main.name} with ${side.name}`,
		inputs: {
			...Object.fromEntries(Object.entries(main.inputs).filter(([name]) => !isControlResidual(name))),
			[controlImageInput]: side.inputs[controlImageInput]!,
			[controlScaleInput]: { dtype: 'float32', shape: [] },
		},
		layers: [enter, ...sideLayers, leave, ...main.layers],
		outputs: main.outputs,
	};
}

/** Weights of both, the ControlNet's under `controlnet.`. */
export function joinedWeights(unet: ModelPart, control: ModelPart): WeightSource {
	const of = (name: string) => (name.startsWith(controlPrefix) ? control.weights : unet.weights);
	const own = (name: string) => (name.startsWith(controlPrefix) ? name.slice(controlPrefix.length) : name);
	return {
		folder: `${unet.folder} with ${control.folder}`,
		weights: {
			has: (name) => of(name).has(own(name)),
			info: (name) => of(name).info(own(name)),
			read: (name) => of(name).read(own(name)),
		},
	};
}
