/** @file Whether a filling problem makes sense before anything is computed from it. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { FillProblem } from './types.ts';

/** Throws an input error naming the first thing that is not as the types promise in words. */
export function checkProblem(problem: FillProblem): void {
	const { idle, endMs, batch, batchSizes, components, freeBytes } = problem;
	must(idle.length > 0, 'filling', 'at least one device', 'none');
	must(Number.isFinite(endMs) && endMs >= 0, 'endMs', 'ms, not negative', endMs);
	must(Number.isSafeInteger(batch) && batch >= 1, 'batch', 'a whole number of samples, at least 1', batch);
	const ascending = batchSizes.every((size, i) => Number.isSafeInteger(size) && size > (i > 0 ? batchSizes[i - 1]! : 0));
	must(batchSizes.length > 0 && ascending, 'batchSizes', 'ascending whole numbers, at least one', batchSizes.join(', '));
	for (const [device, own] of idle.entries()) {
		let at = 0;
		for (const [i, { start, end }] of own.entries()) {
			const place = `idle interval ${i} of device ${device}`;
			must(start >= at && end >= start && end <= endMs + 1e-9 * endMs, place, `in order within [0, ${endMs}]`, `[${start}, ${end}]`);
			at = end;
		}
	}
	if (freeBytes) must(freeBytes.length === idle.length, 'freeBytes', `one number per device, ${idle.length}`, freeBytes.length);
	for (const { name, layers } of components) {
		for (const [index, { forwardMs, outputBytes, paramBytes }] of layers.entries()) {
			const place = `frozen component '${name}', layer ${index}`;
			const good = forwardMs.length === batchSizes.length && forwardMs.every((ms) => Number.isFinite(ms) && ms >= 0);
			must(good, place, `${batchSizes.length} times in ms`, forwardMs.join(', '));
			must(outputBytes >= 0 && paramBytes >= 0, place, 'bytes that are not negative', `${outputBytes}, ${paramBytes}`);
		}
	}
}

function must(good: boolean, place: string, expected: string, found: string | number): void {
	if (!good) throw fillError('not a filling problem', place, { expected, found: String(found) });
}

/** The place of a block in messages: component and layer. */
export function blockPlace({ components }: FillProblem, { component, first }: { component: number; first: number }): string {
	const { name, layers } = components[component]!;
	return `frozen component '${name}', layer ${first} ('${layers[first]!.name}')`;
}

/** An error of the input about filling. */
export function fillError(
	what: string,
	place: string,
	parts: { expected?: string; found?: string; hint?: string } = {},
): DiffusionPipeError {
	return new DiffusionPipeError('input', what, { place, ...parts });
}
