/**
 * @file Training a ControlNet with everything that is frozen in the bubbles: the autoencoder, the text encoder, and the locked U-Net's encoder, whose noise and
 * timestep are drawn a step early. The locked decoder is part of the trained chain, since gradients pass through it.
 */
import { trainingChain } from '../../diffusion/objective.ts';
import { joinControl, locked, splitUNet } from '../../models/locked-unet.ts';
import type { Chain, ChainInput, Layer } from '../../nn/chain.ts';
import type { Given, OutputOf } from '../../program/fill/types.ts';
import type { RunPart } from './parts.ts';

export interface ControlNetRun {
	/** The ControlNet and the locked decoder between noising and loss. */
	readonly chain: Chain;
	readonly parts: readonly RunPart[];
	readonly given: Given;
	/** Inputs of the locked encoder that the host feeds a step early: the training's own for the next step, under the part's name. */
	readonly early: readonly string[];
}

/** The frozen part that is the locked U-Net's encoder. */
export const lockedEncoder = 'unet_encoder';

/** What noises the latents; fed to the locked encoder and to the trained chain alike. */
const early = ['noise', 'signal', 'spread', 'timestep'] as const;

/**
 * `control` (a ControlNet's chain) beside `unet` (with control residuals as inputs), under parts `vae` and `text_encoder`. `weights` gives the locked
 * encoder's parameters by their names in the U-Net; the locked decoder's are buffers of the chain under `unet.`. Without `vae` the samples are pixels, which
 * the host feeds.
 */
export function controlNetRun(
	control: Chain,
	unet: Chain,
	[vae, text]: readonly [vae: RunPart | undefined, text: RunPart],
	weights: RunPart['weights'],
	globalBatch: number,
): ControlNetRun {
	const { encoder, decoder } = splitUNet(unet);
	const joined = joinControl(control, decoder);
	const chain = trainingChain(joined, { sample: 'sample', output: joined.outputs[0]!, globalBatch });
	const noised = noisedEncoder(encoder);
	const latents: Record<string, OutputOf> = vae ? { x0: { part: vae.name, output: 'x0' } } : {};
	const states: OutputOf = { part: text.name, output: 'last_hidden_state' };
	const part: RunPart = { name: lockedEncoder, chain: noised, takes: { ...latents, encoder_hidden_states: states }, weights };
	const given: Record<string, OutputOf> = { ...latents, encoder_hidden_states: states };
	for (const output of noised.outputs) {
		const input = `${locked}${output}`;
		if (chain.inputs[input]) given[input] = { part: part.name, output };
	}
	// The locked decoder reads the text and the timestep under names of its own.
	if (chain.inputs[`${locked}encoder_hidden_states`]) given[`${locked}encoder_hidden_states`] = states;
	return { chain, parts: [...(vae ? [vae] : []), text, part], given, early: vae ? early : [...early, 'x0'] };
}

/** The locked encoder on latents that it noises itself: x_t = signal x0 + spread noise. Outputs that are inputs unchanged are left to who feeds them. */
function noisedEncoder(encoder: Chain): Chain {
	const { sample, ...others } = encoder.inputs;
	const scalar: ChainInput = { dtype: 'float32', shape: [] };
	const noising: Layer = {
		name: 'noising',
		path: '',
		build({ g }, live) {
			const x0 = live.get('x0');
			const column = [x0.shape[0]!, ...x0.shape.slice(1).map(() => 1)];
			const part = (value: string, share: string) => g.mul(live.get(value), g.reshape(live.get(share), column));
			live.set('sample', g.add(part('x0', 'signal'), part('noise', 'spread')));
		},
	};
	return {
		...encoder,
		inputs: { ...others, x0: sample!, noise: sample!, signal: scalar, spread: scalar },
		layers: [noising, ...encoder.layers],
	};
}
