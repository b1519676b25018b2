/** @file Random small filling problems, for tests and benches. */
import { randomStream } from '../../../src/core/random.ts';
import type { FillProblem, IdleInterval } from '../../../src/plan/fill/types.ts';

/**
 * `count` problems: 2 or 3 devices with up to 3 idle intervals each, 1 to 3 components, 2 or 3 part sizes, 2 samples and up to 5
 * layers in all to 4 samples and up to 3.
 * All times are whole ms; a third of the problems has slow links, a third little memory.
 */
export function fillCases(seed: number, count: number): FillProblem[] {
	return Array.from({ length: count }, (_, index) => fillCase(seed, index));
}

function fillCase(seed: number, index: number): FillProblem {
	const stream = randomStream(seed, 'fill cases');
	let drawn = 0;
	/** A whole number of [low, high]. */
	const draw = (low: number, high: number): number => low + Math.floor(stream.uniform(index, drawn++) * (high - low + 1));
	const devices = draw(2, 3);
	const endMs = draw(20, 60);
	const idle = Array.from({ length: devices }, () => {
		const own: IdleInterval[] = [];
		for (let at = draw(0, 1) * draw(0, 20), more = draw(0, 3); more > 0 && at < endMs; more--) {
			const end = Math.min(endMs, at + draw(3, 25));
			own.push({ start: at, end });
			at = end + draw(3, 20);
		}
		return own;
	});
	const batchSizes = [
		[1, 2],
		[2, 4],
		[1, 4],
		[1, 2, 4],
		[1, 3],
	][draw(0, 4)]!;
	const batch = draw(2, 4);
	const components = ['a', 'b', 'c'].slice(0, draw(1, 3));
	const most = [5, 4, 3][batch - 2]!;
	const layers = components.map(() => 1);
	for (let more = draw(0, Math.max(0, most - layers.length)); more > 0; more--) layers[draw(0, layers.length - 1)]!++;
	const perSample = draw(0, 2) === 0 ? 4 : 0;
	const links = { latency: draw(0, 2), perByte: perSample };
	return {
		idle,
		endMs,
		batch,
		batchSizes,
		components: components.map((name, c) => ({
			name,
			after: components.slice(0, c).filter(() => draw(0, 2) === 0),
			layers: Array.from({ length: layers[c]! }, (_, layer) => {
				const [fixed, each] = [draw(0, 4), draw(1, 6)];
				return {
					name: `${name}.${layer}`,
					forwardMs: batchSizes.map((size) => fixed + each * size),
					outputBytes: draw(0, 1),
					paramBytes: draw(1, 4),
				};
			}),
		})),
		transferMs: (bytes, from, to) => (from === to ? 0 : links.latency + bytes * links.perByte),
		...(draw(0, 2) === 0 ? { freeBytes: Array.from({ length: devices }, () => draw(8, 16)) } : {}),
	};
}
