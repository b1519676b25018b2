/** @file Whether a ControlNet fits a U-Net: what both take must be of one shape, and every residual must have its place. */
import { DiffusionPipeError } from '../core/errors.ts';
import { type Chain, traceChain } from '../nn/chain.ts';
import { midResidualName, skipResidualName } from './unet-condition.ts';

/** Chain input of a ControlNet with the picture of conditions, values in [0, 1]. */
export const controlImageInput = 'controlnet_cond';

/** Whether a chain input of a U-Net is a residual that a ControlNet gives. */
export const isControlResidual = (name: string): boolean => name === midResidualName || name.startsWith(skipResidualName(0).slice(0, -1));

/**
 * Compares `unet`, a U-Net with control residuals as inputs, with `control`. Throws a config error at `place` unless every input that both have, and every
 * residual, is of one shape.
 */
export function checkControlFit(unet: Chain, control: Chain, place: string): void {
	const residuals = (names: readonly string[]) => names.filter(isControlResidual).sort().join(', ');
	const named = residuals(Object.keys(unet.inputs)) === residuals(control.outputs);
	const others = Object.entries(control.inputs).filter(([name]) => name !== controlImageInput);
	const trace = traceChain(control, 1);
	const given = control.outputs.map((name, i) => [name, { shape: trace.definitions.get(trace.outputs[i]!)!.shape.slice(1) }] as const);
	const shared = [...others, ...(named ? given : [])].find(([name, { shape }]) => unet.inputs[name]?.shape.join() !== shape.join());
	if (!shared && named) return;
	throw new DiffusionPipeError('config', 'the ControlNet does not fit the U-Net', {
		place,
		expected: shared
			? `${shared[0]} [${unet.inputs[shared[0]]?.shape.join(', ') ?? 'which the U-Net does not take'}]`
			: `residuals ${residuals(Object.keys(unet.inputs))}`,
		found: shared ? `[${shared[1].shape.join(', ')}]` : residuals(control.outputs),
		hint: 'take a ControlNet made for this model',
	});
}
