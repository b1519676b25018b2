/** @file Which differences between two configs would change what a resumed run learns. */

/** Keys that say where and how fast, not what: free to differ between a checkpoint and the run resumed from it. */
const free = [
	...['output_dir', 'parallel', 'checkpoint', 'sample', 'log', 'frozen.cache', 'frozen.cache_dir'],
	...['train.max_steps', 'train.gradient_accumulation_steps'],
	...['eval.before_first_step', 'eval.quantiles', 'eval.ema', 'eval.batch_size'],
];

/** Readable differences `key: old -> new` in what matters to the result. */
export function configDifferences(old: unknown, now: unknown, path = ''): string[] {
	if (free.includes(path)) return [];
	const isTable = (x: unknown): x is Record<string, unknown> => typeof x === 'object' && x !== null && !Array.isArray(x);
	if (isTable(old) && isTable(now)) {
		const keys = [...new Set([...Object.keys(old), ...Object.keys(now)])];
		return keys.flatMap((key) => configDifferences(old[key], now[key], path === '' ? key : `${path}.${key}`));
	}
	const [a, b] = [JSON.stringify(old), JSON.stringify(now)];
	return a === b ? [] : [`${path}: ${a ?? 'nothing'} -> ${b ?? 'nothing'}`];
}
