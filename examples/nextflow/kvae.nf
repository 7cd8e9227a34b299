// Processes of kvae: shards of features, all of them joined, latents.

process FEATURIZE {
    tag "${index}/${shards}"
    cpus 4
    memory '4 GB'

    input:
    tuple val(index), val(shards)
    path inputs, stageAs: 'inputs/*'

    output:
    path 'feats/*', emit: shard

    script:
    """
    kvae featurize inputs --output feats --shard ${index}/${shards} --threads ${task.cpus}
    """
}

process MERGE {
    memory '2 GB'

    input:
    path shards, stageAs: 'feats/*'

    output:
    path 'feats.arrow', emit: features

    script:
    """
    kvae merge feats --output feats.arrow
    """
}

process ENCODE {
    cpus 8
    memory '16 GB'

    input:
    path features

    output:
    path 'latent.arrow', emit: latents

    script:
    """
    kvae encode --pretrained ${features} --output latent.arrow --threads ${task.cpus}
    """
}
