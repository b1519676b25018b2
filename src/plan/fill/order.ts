/** @file The order in which frozen components may run. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { FrozenComponent } from '../profile/types.ts';

/** Indices of `components`, each after those whose output it takes, otherwise as given; throws an input error at an unknown name or a circle. */
export function componentOrder(components: readonly FrozenComponent[]): number[] {
	const byName = new Map(components.map(({ name }, index) => [name, index]));
	if (byName.size < components.length) {
		const twice = components.find(({ name }, index) => byName.get(name) !== index)!;
		throw new DiffusionPipeError('input', 'two frozen components have one name', { place: `frozen component '${twice.name}'` });
	}
	for (const { name, after } of components) {
		const unknown = after.find((other) => !byName.has(other));
		if (unknown !== undefined) {
			throw new DiffusionPipeError('input', 'unknown component in `after`', {
				place: `frozen component '${name}'`,
				expected: [...byName.keys()].join(', '),
				found: unknown,
			});
		}
	}
	const order: number[] = [];
	const placed = new Set<number>();
	while (order.length < components.length) {
		const next = components.findIndex(({ after }, index) => !placed.has(index) && after.every((name) => placed.has(byName.get(name)!)));
		if (next < 0) {
			const left = components.filter((_, index) => !placed.has(index)).map(({ name }) => name);
			throw new DiffusionPipeError('input', 'components wait for each other', { place: 'frozen components', found: left.join(', ') });
		}
		placed.add(next);
		order.push(next);
	}
	return order;
}

/** The components whose last layers component `c` waits for: those of `after`, and for one without layers those that it waits for itself. */
export function lastLayersOf(components: readonly FrozenComponent[], c: number): number[] {
	const found = new Set<number>();
	const visit = (index: number): void => {
		for (const name of components[index]!.after) {
			const other = components.findIndex((component) => component.name === name);
			if (components[other]!.layers.length > 0) found.add(other);
			else visit(other);
		}
	};
	visit(c);
	return [...found].sort((a, b) => a - b);
}
