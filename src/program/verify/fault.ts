/** @file How the verifier reports a broken rule. */
import { DiffusionPipeError, type ErrorParts } from '../../core/errors.ts';
import { formatStep, type Step, stepsOf } from '../order.ts';
import type { Program } from '../types.ts';

/** A program error at an instruction: device, section, index and text, then what is wrong. */
export function faultAt(program: Program, step: Step, what: string, parts: Omit<ErrorParts, 'place'> = {}): DiffusionPipeError {
	return new DiffusionPipeError('program', what, { place: formatStep(program, step), ...parts });
}

/** A program error about a device, group or channel as a whole. */
export function fault(place: string, what: string, parts: Omit<ErrorParts, 'place'> = {}): DiffusionPipeError {
	return new DiffusionPipeError('program', what, { place, ...parts });
}

/** Every instruction of every device, the iteration once. */
export function allSteps(program: Program): Step[] {
	return program.devices.flatMap((device) => stepsOf(device, 1));
}
