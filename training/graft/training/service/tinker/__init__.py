"""The wire of the `tinker` SDK (PyPI), as its releases 0.26 to 0.38 speak it: what of it is met, and what is not.

Recorded from the SDK's sources. Bodies are JSON but for forward-backward requests and their and sampling's results,
which are protobuf (``graft/v1/tinker.proto``). The address is ``TINKER_BASE_URL`` or ``base_url``; the key,
``TINKER_API_KEY`` or ``api_key``, comes in ``X-API-Key`` and must begin with ``tml-`` for the SDK: what follows is the
token of the server that samples. What takes time is answered by a request's id, and asked about at ``retrieve_future``,
where 408 is "ask again".

===========================================  ==========================================================================
``client/config``, ``client/dynamic_config``  met: flags of what is here
``create_session``, ``session_heartbeat``,    met; a session ends when it is finished, or a time without a sign of
``sessions/{id}/finish``                      life, and with it its adapters
``create_model``, ``get_info``                met: LoRA, scale 32/r, AdamW. The output head does not learn (no server
                                              takes an adapter on it): the session's warning says so. Not met: dimuon
``forward_backward``                          met: cross_entropy, importance_sampling, ppo, cispo, dro; forward alone.
                                              Not met: gspo and stable_reinforce, whose formulas nobody has published;
                                              targets of several tokens at one place; images and sounds; losses that
                                              the server computes (the SDK computes them itself, with cross_entropy)
``optim_step``                                met: adam_params, whose numbers may change at each step
``save_weights``, ``load_weights``            met: with and without the optimizer; a training made from a state, too.
                                              They are kept until they are deleted, whatever their time to live
``save_weights_for_sampler``                  met: snapshots, with and without a name. Not met: inflight, for a version
                                              is never changed here
``create_sampling_session``, ``asample``,     met: the base and versions. Not met: top-k of the prompt, logprobs of
``join_sampling_session``, ``samplers/{id}``  named tokens there, drawn alternatives, stability information
``retrieve_future``                           met. ``retrieve_futures``, ``cancel_future``: the flags say no
``weights_info``                              met
``telemetry``                                 accepted, and thrown away
``save_weights_external``, ``copy_weights``,  not met: a version is downloaded from the server that samples; there are
``publish``, lists of runs and checkpoints,   no projects, no accounts, no bills
projects, audit, billing, ``auth/token``
===========================================  ==========================================================================
"""
