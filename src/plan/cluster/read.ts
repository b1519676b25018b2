/** @file Reads a cluster from outside. */
import * as v from 'valibot';
import { count, notNegative, parseDocument, positive, version } from '../parse.ts';
import type { Cluster } from './types.ts';

const link = v.strictObject({ latencyMs: notNegative, bytesPerMs: positive });

const schema = v.strictObject({
	version,
	hosts: count,
	devicesPerHost: count,
	memoryBytes: positive,
	intra: link,
	inter: link,
});

/**
 * The cluster that `raw` (parsed JSON) describes.
 * @param place what to name in messages, as the file
 * @throws DiffusionPipeError of kind 'input' naming the field
 */
export function readCluster(raw: unknown, place?: string): Cluster {
	return parseDocument(schema, raw, 'cluster', place);
}
