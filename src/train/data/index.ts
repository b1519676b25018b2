/** @file The data sets by the `type` of their options. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { type EmojiOptions, emojiOptions, openEmoji } from './emoji.ts';
import { type FolderOptions, folderOptions, openImageFolder } from './image-folder.ts';
import { type MnistOptions, mnistOptions, openMnist } from './mnist.ts';
import type { DataSet } from './types.ts';

/** Options of a data set, told apart by `type`. Plain data: they can be saved with a run and sent to a thread. */
export type DataOptions = MnistOptions | EmojiOptions | FolderOptions;

/** What opens each type of data set, and the schema of its options. */
export const dataSets = {
	mnist: { options: mnistOptions, open: openMnist },
	emoji: { options: emojiOptions, open: openEmoji },
	folder: { options: folderOptions, open: openImageFolder },
} as const satisfies {
	[T in DataOptions['type']]: { options: unknown; open: (options: Extract<DataOptions, { type: T }>) => Promise<DataSet> };
};

/**
 * Opens the data set that `options.type` names.
 * @throws DiffusionPipeError of kind 'config' when there is no such type or an option is wrong, 'input' when the data is missing or malformed
 */
export async function openDataSet(options: DataOptions): Promise<DataSet> {
	const type: unknown = options?.type;
	if (typeof type !== 'string' || !Object.hasOwn(dataSets, type)) {
		const near = typeof type === 'string' ? nearestName(type, Object.keys(dataSets)) : undefined;
		throw new DiffusionPipeError('config', 'no such type of data set', {
			place: 'data.type',
			expected: Object.keys(dataSets).join(', '),
			found: JSON.stringify(type) ?? 'nothing',
			...(near === undefined ? {} : { hint: near }),
		});
	}
	// The compiler cannot see that the entry found by `type` takes the options of that `type`.
	const open = dataSets[type as DataOptions['type']].open as (options: DataOptions) => Promise<DataSet>;
	const dataSet = await open(options);
	if (dataSet.size === 0)
		throw new DiffusionPipeError('input', 'the data set is empty', { place: dataSet.name, hint: 'check the options of [data]' });
	return dataSet;
}
